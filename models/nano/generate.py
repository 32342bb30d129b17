"""Text for the nano model: little stories, questions about them, small sums and chats, all made from a seed.

A document is a list of (text, weight) segments: the weight says how much the training loss of those characters counts
(questions and separators count little, stories and answers fully). Nothing here is read from anywhere: every sentence is
written in these files, and people, things, places and times are tracked while a story is told, so that its questions have true answers.

Here are the documents, the held-out set and the command line; telling.py has the words and people, tales.py the plots of the stories,
exercises.py the reports and the sums.

Held-out by construction:
  sums       the operands (an addition counts as its sorted pair) are hashed; one in ten is never trained on
  questions  every story declares pairs such as (person, thing); they are hashed; a story with a held-out pair is never
             trained on, and the held-out questions are asked only about stories whose first pair is held out

Usage:  generate.py --sample 5 [--kind story|qa|sum|chat] [--seed 1]      print documents
        generate.py --heldout heldout.jsonl [--seed 1]                    write the held-out set
"""
import argparse
import json
import random

from exercises import long_report, operands, plot_moves, sum_question, told_sum
from tales import TALES, story
from telling import ANIMALS, BOYS, COLOURS, DAYS, ELDERS, GIRLS, MORE_NAMES, NATURES, PETS, PLACES, THINGS, WARES

BOS, EOS, BOT, EOT = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|BOT|>", "<|EOT|>"


# ---- documents --------------------------------------------------------------------------------------------------------

FORMS = [("Question:", "\nAnswer:", "\n"), ("Question:", " Answer:", "\n"), ("Q:", "\nA:", "\n")]
LOW, TOLD = 0.05, 0.4  # of what cannot be known; of a story, where much is a matter of taste


def doc_story(r):
    text = story(r).text()
    if r.random() < 0.06:  # begin in the middle, at a sentence
        sentences = text.split(". ")
        text = ". ".join(sentences[r.randint(1, min(4, len(sentences) - 2)):]).lstrip("\n")
    return [(text, TOLD), (EOS, 1.0)]


def asked(r, s, count):
    return r.sample(s.qa, min(count, len(s.qa)))


def doc_qa(r):
    s = story(r, TALES + [plot_moves] * 11 + [long_report] * 9)
    head = r.choices(["", "Story: ", "Read the story.\n\n"], [6, 3, 1])[0]
    q, ans, sep = r.choices(FORMS, [6, 3, 1])[0]
    out = [(head, 0.0), (s.text(), TOLD / 2 if len(s.parts) > 1 else LOW)]
    between = r.choice(["\n\n", "\n\n", "\n", " "])
    for question, short, _ in asked(r, s, r.choice([2, 4, 6, 9, 9])):
        out += [(f"{between}{q} {question}{ans}", LOW / 5), (f" {short}", 3.0)]
        between = sep
    return out + [(EOS, 1.0)]


def doc_sum(r):
    out, sep = [], ""
    bare = r.random() < 0.4
    q, ans, _ = r.choices(FORMS, [6, 3, 1])[0]
    for _ in range(r.randint(1, 8)):
        op, x, y, z = operands(r)
        if not bare and r.random() < 0.08:
            text, short, _ = told_sum(r)
            out += [(f"{sep}{q} {text}{ans}", LOW / 5), (f" {short}", 3.0)]
        elif bare:
            form = r.choice([f"{x} {op} {y} =", f"{x} {op} {y} =", f"{x}{op}{y}="])
            out += [(sep + form, LOW / 5), (f" {z}" if " " in form else f"{z}", 3.0)]
        else:
            out += [(f"{sep}{q} {sum_question(r, op, x, y)}{ans}", LOW / 5), (f" {z}", 3.0)]
        sep = "\n"
    return out + [(EOS, 1.0)]


GREETINGS = ["Hello!", "Hello", "Hi", "Hi!", "Hey", "Good morning!", "Good evening!", "Hello, how are you?", "How are you?"]
THANKS = ["Thank you.", "Thank you!", "Thanks!", "Thanks", "That was nice.", "Well done!", "Great!", "Goodbye.", "Bye!", "Good night."]
WHO = ["Who are you?", "What are you?", "What is your name?", "What can you do?", "Help", "What do you know?", "Can you help me?",
       "What should I ask you?", "Are you a person?"]
ABILITIES = "I can tell little stories, answer questions about them, and do small sums."
UNKNOWN_SUBJECTS = ["the capital of France", "the moon", "a computer", "the weather tomorrow", "the meaning of life", "the news", "a car",
                    "the president", "Python", "the best film", "history", "the time", "a recipe", "music", "London", "the speed of light",
                    "China", "mathematics", "the stock market", "football", "a black hole", "English grammar", "the law", "the internet"]
UNKNOWN_FORMS = ["What is {}?", "Tell me about {}.", "Explain {}.", "What do you think about {}?", "Who invented {}?", "Why is {} important?",
                 "Can you explain {}?", "Write an essay about {}.", "How does {} work?", "Do you know {}?", "What is the name of {}?"]
ASK_STORY = ["Tell me a story.", "Tell me a story", "Please tell me a story.", "Tell me a little story.", "Can you tell me a story?",
             "Write a short story.", "I want to hear a story.", "Tell me another story.", "One more story, please."]
ASK_ABOUT = ["Tell me a story about {}.", "Tell me a story about {}.", "Write a story about {}.", "Can you tell me a story about {}?",
             "Please tell me a story about {}.", "A story about {}, please.", "Tell me a little story about {}."]


def user(text):
    return [(f"{BOT}user\n", 0.0), (text, LOW / 5), (f"{EOT}{BOT}assistant\n", 0.0)]


def turn(text, weight):
    return [(text, weight), (EOT, 1.0)]


def small_talk(r):
    roll = r.random()
    if roll < 0.2:
        hello = r.choice(GREETINGS)
        return user(hello) + turn(("Hello! I am fine. " if "how are" in hello.lower() else "Hello! ") + ABILITIES, 0.5)
    if roll < 0.35:
        return user(r.choice(THANKS)) + turn("You are welcome.", 0.5)
    if roll < 0.6:
        return user(r.choice(WHO)) + turn(f"I am a very small language model. {ABILITIES}", 0.5)
    question = r.choice(UNKNOWN_FORMS).format(r.choice(UNKNOWN_SUBJECTS))
    if r.random() < 0.15:
        question = question.lower()
    return user(question) + turn(f"I do not know that. {ABILITIES}", 0.5)


def doc_chat(r):
    """A conversation of some turns. A system text, where there is one, stands before the first turn without a role."""
    out = [(r.choice(["You are a helpful assistant.", "You tell stories."]), 0.0)] if r.random() < 0.08 else []
    for _ in range(r.choice([1, 1, 2, 3, 4])):
        roll = r.random()
        if roll < 0.2:
            for _ in range(r.randint(1, 5)):
                op, x, y, z = operands(r)
                if r.random() < 0.12:
                    text, _, full = told_sum(r)
                    out += user(text) + turn(full, 3.0)
                    continue
                question = sum_question(r, op, x, y)
                if r.random() < 0.15:
                    question = question[0].lower() + question[1:].rstrip("?.")
                out += user(question) + turn(f"{x} {op} {y} = {z}.", 3.0)
        elif roll < 0.88:
            s = story(r, TALES + [plot_moves] * 11 + [long_report] * 9)
            given = r.random() < 0.85
            questions = asked(r, s, r.randint(2, 7))
            if given:
                first = questions.pop(0)
                glue = r.choice(["\n\n", "\n\n", "\n", " "])
                out += user(f"{s.text()}{glue}{first[0]}") + turn(first[2], 3.0)
            else:
                s = story(r)
                questions = asked(r, s, r.randint(1, 3))
                out += user(r.choice(ASK_STORY)) + turn(s.text(), TOLD)
            for question, _, full in questions:
                out += user(question) + turn(full, 3.0)
        elif roll < 0.95:
            s = story(r)
            ask = r.choice(ASK_STORY) if r.random() < 0.4 else r.choice(ASK_ABOUT).format(r.choice(s.topics))
            out += user(ask) + turn(s.text(), TOLD)
        else:
            out += small_talk(r)
    return out


def doc_echo(r):
    """A list of random words, two to four times: it teaches looking back early in training, and nothing else."""
    pool = GIRLS + BOYS + MORE_NAMES + NATURES + COLOURS + THINGS + ANIMALS + PETS + ELDERS + WARES + DAYS + list(PLACES)
    if r.random() < 0.5:
        return doc_pairs(r, pool)
    words = " ".join(r.choice(pool) for _ in range(r.randint(5, 30)))
    return [(words, 0.0)] + [(f"\n{words}", 1.0)] * r.randint(1, 3) + [(EOS, 1.0)]


def doc_pairs(r, pool):
    """Random words each with one or two others beside it, some of them given twice; then asked for: the later one counts."""
    keys = r.sample(sorted(set(pool)), r.randint(3, 12))
    beside, out = {}, []
    for key in keys + r.sample(keys, r.randint(0, 2)):
        beside[key] = " ".join(r.choice(pool) for _ in range(r.randint(1, 2)))
        out.append((f"{key}: {beside[key]}. ", 0.0))
    out[-1] = (out[-1][0].rstrip(), 0.0)
    for key in r.sample(keys, r.randint(2, len(keys))):
        out += [(f"\n{key}:", 0.0), (f" {beside[key]}", 3.0)]
    return out + [(EOS, 1.0)]


KINDS = {"story": (doc_story, 0.08), "qa": (doc_qa, 0.50), "sum": (doc_sum, 0.14), "chat": (doc_chat, 0.28)}


def document(r, echo=0.0):
    """One training document: segments with bos in front of all chats and of most plain texts. echo: the share of doc_echo."""
    if r.random() < echo:
        return doc_echo(r)
    kind = r.choices(list(KINDS), [w for _, w in KINDS.values()])[0]
    segments = KINDS[kind][0](r)
    if kind == "chat" or r.random() < 0.7:
        segments = [(BOS, 0.0)] + segments
    return segments


# ---- the held-out set -------------------------------------------------------------------------------------------------

def heldout(r, sums=200, questions=200):
    """Items of four groups, plain and chat forms of the same tasks: {group, prompt, expected}. The prompt is complete
    (the chat form with its role tokens) except for the bos token; an answer ends at a newline or a stop token."""
    seen = set()
    for _ in range(sums):
        while True:
            op, x, y, z = operands(r, want_held_out=True)
            if (op, x, y) not in seen:
                break
        seen.add((op, x, y))
        q = f"What is {x} {op} {y}?"
        yield {"group": "sum-plain", "prompt": f"Question: {q}\nAnswer:", "expected": str(z)}
        yield {"group": "sum-chat", "prompt": f"{BOT}user\n{q}{EOT}{BOT}assistant\n", "expected": f"{x} {op} {y} = {z}."}
    for _ in range(questions):
        s = story(r, TALES + [plot_moves] * 4, want_held_out=True)
        q, short, full = r.choice(s.qa)
        yield {"group": "question-plain", "prompt": f"{s.text()}\n\nQuestion: {q}\nAnswer:", "expected": short}
        yield {"group": "question-chat", "prompt": f"{BOT}user\n{s.text()}\n\n{q}{EOT}{BOT}assistant\n", "expected": full}


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--sample", type=int, default=0)
    cli.add_argument("--kind", choices=list(KINDS))
    cli.add_argument("--heldout")
    cli.add_argument("--seed", type=int, default=1)
    args = cli.parse_args()
    r = random.Random(args.seed)
    for _ in range(args.sample):
        segments = KINDS[args.kind][0](r) if args.kind else document(r)
        print("".join(t for t, _ in segments), end="\n\n----\n")
    if args.heldout:
        with open(args.heldout, "w", encoding="utf-8") as f:
            for item in heldout(r):
                f.write(json.dumps(item, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
