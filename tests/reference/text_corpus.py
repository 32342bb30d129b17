"""Texts for tokenizer tests, all made here: sentences in many scripts, code, and random strings that look for trouble. Used by text_make.py and text_compare.py."""
import random
import unicodedata

SENTENCES = [
    "The lamp on the table was still warm when Nora came back from the garden, so she read one more page.",
    "We'll see what they've done; I'd say it isn't over, and you're right, he's late. I'm sure that'll do.",
    "WE'LL SEE WHAT THEY'VE DONE; I'D SAY IT ISN'T OVER, AND YOU'RE RIGHT, HE'S LATE. I'M SURE.",
    "Größere Häuser stehen am Fluß, daß wir über die Brücke müssen; ein Gefühl für Übermut bleibt.",
    "Le garçon naïf mangeait déjà la crème brûlée à Noël, où l'été n'était plus qu'un souvenir.",
    "El niño pequeño corrió por la montaña; ¿quién sabe adónde va? ¡Qué sorpresa más extraña!",
    "Старая лодка лежала на берегу, и дети придумывали про неё истории каждый вечер.",
    "Το παλιό ρολόι χτύπησε μεσάνυχτα και η πόλη σώπασε για λίγο.",
    "小さな猫が窓のそばで眠っている。カタカナとひらがなと漢字が混ざる。",
    "今天下午三点钟我们在图书馆门口见面,然后一起去河边散步。",
    "작은 마을의 우체부는 매일 아침 자전거를 타고 편지를 나른다.",
    "كان الولد يقرأ كتابًا قديمًا تحت شجرة الزيتون في المساء.",
    "הילדה כתבה מכתב ארוך לחברה שלה ושלחה אותו בדואר.",
    "एक छोटा लड़का नदी के किनारे पत्थर इकट्ठा कर रहा था।",
    "เด็กน้อยเดินไปโรงเรียนทุกวันโดยไม่ลืมหนังสือของเขา",
    "Ông lão ngồi dưới gốc cây, kể chuyện ngày xưa cho lũ trẻ nghe.",
    "ছোট্ট পাখিটি জানালার পাশে বসে গান গাইছে।",
    "சிறிய பறவை மரத்தில் அமர்ந்து பாடுகிறது.",
    "ფრინველი ფანჯარასთან მღერის, ხოლო ბავშვი უსმენს.",
    "Փոքրիկ տղան գետի ափին քարեր էր հավաքում։",
    "ትንሹ ልጅ በየቀኑ ወደ ትምህርት ቤት ይሄዳል።",
    "for (int i = 0; i < n; i++) {\n    total += values[i] * 3.14159e-2;  // sum\n\tif (!ok) return -1;\n}\n",
    "def area(r):\n    \"\"\"Circle.\"\"\"\n    return 3.14159 * r ** 2\n\n\nprint(f\"{area(2.5):.3f}\")\n",
    "<html><body class='a-b_c'>&nbsp;&#1234;</body></html> {\"key\": [1, 22, 333, 4444, 55555, 666666]}",
    "https://example.org/a/b?c=1&d=%20#frag  user@example.com  C:\\dir\\file.txt  $HOME/.config",
    "1 22 333 4444 55555 666666 7777777 3.14 -17 +49 1,000,000 0x1F 1e10 ½ ² ٣٤٥ १२३ Ⅷ 四",
    "🙂 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇯🇵 ❤️ ☕️ 1️⃣ 👨🏿‍🚀 #️⃣",
    "e\u0301 a\u0300\u0323 o\u0323\u0302 n\u0303 \u1112\u1161\u11ab \uac00\u11a8 \u0344 \u212b \u2126 \ufb01 q\u0307\u0323 q\u0323\u0307",
    "\u200b\u200c\u200d\ufeff\u00ad\u2028\u2029\u0085\u180e\u3000\u00a0\u202f \u2009x\u1680y",
    "\x00\x01\x02 \x07\x08\x0b\x0c\x1b[0m \x7f \x80\x9f",
    "\ue000\uf8ff\U000f0000\U0010fffd\ufffd\ufffe\uffff",
    "  two  three   four    five     end  ",
    "\n\n\n\r\n\r\n \n \n\t\n  x\n\ny \r z\r\r\n",
    "\t\t\tindent\n\t\t  mixed\n    \n        deep\n",
    "'s 't 're 've 'm 'll 'd 'S 'T 'RE 'VE 'M 'LL 'D 'ſ x'ſ 'K l'l don''t ''s",
    "…—–“quoted” ‘single’ «guillemets» ¿¡!? ... ,,, ;;; --- === ***",
    "ＦＵＬＬ ｗｉｄｔｈ １２３ ｱｲｳ ㍿ ㌔ ① ⑳ ㈱",
    "Ǆ ǅ ǆ ŉ ß ẞ İ ı Σ ς ﬀ ﬃ ŀ ĿL dž",
    "a.b.c d_e-f+g=h*i/j\\k|l~m`n^o%p$q#r@s!t?u:v;w,x<y>z",
    "", " ", "  ", "\n", "a", "é", "中", "🙂", "\u0301", "'", "1", "\x00", "▁", "▁▁ ▁a", " ▁",
]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|bos|>", "<s>", "</s>", "<unk>", "<think>", "</think>", "<tool_call>", "[MASK]", "<left>", "<right>", "word", "<0x0A>", "<nfc\u00e9>"]


def blocks():
    """A sample of every 128 code points that hold something."""
    for start in range(0, 0x110000, 128):
        chars = [chr(c) for c in range(start, start + 128) if not 0xD800 <= c < 0xE000 and (unicodedata.category(chr(c)) != "Cn" or c < 0x40000)]
        if chars and start < 0xE0200 and not (0x3400 <= start < 0x9F00 and start % 2048) and not (0xAC00 <= start < 0xD700 and start % 2048) and not (0x17000 <= start and start % 2048 and not 0x1B000 <= start < 0x20000 and start < 0xE0000):
            yield start, chars


def block_texts(rng):
    found, current = [], ""
    for _, chars in blocks():
        current += "".join(rng.sample(chars, min(8, len(chars)))) + rng.choice(["", " ", "a", "\n", "1"])
        if len(current) > 120:
            found.append(current)
            current = ""
    return found + [current]


def random_text(rng):
    kind = rng.randrange(8)
    if kind == 0:
        return "".join(rng.choice([" ", "  ", "\n", "\t", "a", "1", ".", "'s", "\r\n", "é", "\u00a0", "\u3000"]) for _ in range(rng.randrange(1, 60)))
    if kind == 1:
        return "".join(chr(c) for c in (rng.randrange(0x110000) for _ in range(rng.randrange(1, 40))) if not 0xD800 <= c < 0xE000)
    if kind == 2:
        return "".join(chr(rng.randrange(1, 0x250)) for _ in range(rng.randrange(1, 80)))
    if kind == 3:
        return rng.choice(["a", " ", "\n", "1", "中", "é", "\u0301", "🙂", "-", "ab", " a", "'s", "\t"]) * rng.randrange(1, 300)
    if kind == 4:
        words = " ".join(SENTENCES).split()
        return rng.choice(["", " "]).join(rng.choice(words) + rng.choice([" ", "", "\n", "  "]) for _ in range(rng.randrange(1, 40)))
    if kind == 5:
        parts = [rng.choice(SPECIALS) if rng.random() < 0.4 else rng.choice([" ", "a", "word", " x ", "\n", "é", "", "  "]) for _ in range(rng.randrange(1, 14))]
        return "".join(parts)
    if kind == 6:
        base = "aeoöąqx가\u1100\u0915中"
        marks = "\u0301\u0300\u0323\u0302\u0308\u0327\u093c\u0345\u3099\u11a8\u1161\u0344\u0f71\u0f72"
        return "".join(rng.choice(base) + "".join(rng.choice(marks) for _ in range(rng.randrange(4))) for _ in range(rng.randrange(1, 20)))
    lines = [rng.choice(SENTENCES)[rng.randrange(20):][: rng.randrange(1, 60)] for _ in range(rng.randrange(1, 5))]
    return rng.choice(["", " ", "\n"]).join(lines)


def corpus(seed, count):
    rng = random.Random(seed)
    return SENTENCES + block_texts(rng) + [random_text(rng) for _ in range(count)]
