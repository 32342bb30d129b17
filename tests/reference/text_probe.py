"""The program tests/text_probe as Python functions: tokenizers, templates, parsers and grammars of Tandem for the comparisons of this folder."""
import json
import subprocess


class Failed(Exception):
    pass


class Probe:
    def __init__(self, build):
        self.process = subprocess.Popen([str(build / "tests" / "text_probe")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"text_probe ended with {self.process.wait()} at {json.dumps(command)[:2000]}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise Failed(answer["error"])
        return answer

    def open(self, **where):
        return self.ask(op="open", **{k: str(v) for k, v in where.items()})

    def encode(self, texts, flags=2):
        """texts: str or bytes."""
        return self.ask(op="encode", texts=[as_bytes(t).hex() for t in texts], flags=flags)["ids"]

    def pieces(self, lists, skip=False):
        """The pieces of text that come out token by token."""
        return [[bytes.fromhex(p) for p in pieces] for pieces in self.ask(op="decode", ids=lists, skip=skip)]

    def render(self, template, context):
        return bytes.fromhex(self.ask(op="render", template=template, context=context)["text"]).decode("utf-8")

    def parse(self, texts, seed=0, **options):
        return [[(k, c, bytes.fromhex(t)) for k, c, t in parts] for parts in self.ask(op="parse", texts=[as_bytes(t).hex() for t in texts], seed=seed, **options)]

    def grammar(self, kind, text="", draws=0, most=200, seed=1, texts=()):
        answer = self.ask(op="grammar", kind=kind, text=text, draws=draws, most=most, seed=seed, texts=[as_bytes(t).hex() for t in texts])
        answer["texts"] = [bytes.fromhex(t) for t in answer["texts"]]
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
