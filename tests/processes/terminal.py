#!/usr/bin/env python3
"""What a person at a terminal sees: chat with line editing, history, ^C and ^D, and the progress bar, which only a terminal gets. Standard library only."""
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import tempfile
import time

TANDEM = os.path.abspath(os.environ.get("TD_BINARY", "build/tandem"))
LONG = "Tell me a story."
UP, LEFT, ERASE, CTRL_A, CTRL_C, CTRL_D, CTRL_K = b"\x1b[A", b"\x1b[D", b"\x7f", b"\x01", b"\x03", b"\x04", b"\x0b"
failures = 0


def check(what, fine, found=""):
    global failures
    print(("ok    " if fine else "FAIL  ") + what + ("" if fine else f": {found!r}"[:600]))
    failures += not fine


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *arguments, home="/nonexistent"):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(HOME=home, TERM="xterm", LC_ALL="C.UTF-8")
            os.execv(TANDEM, [TANDEM, *arguments])

    def type(self, keys):
        os.write(self.fd, keys)

    def read(self, pattern, seconds=20):
        """All that is shown until the pattern is, or the program ends, or time is over."""
        seen, end = b"", time.monotonic() + seconds
        while time.monotonic() < end and not re.search(pattern, seen):
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    seen += os.read(self.fd, 4096)
                except OSError:
                    break
        return seen

    def ask(self, keys):
        """Types a question and return; what is shown up to the next prompt, without the echo."""
        self.type(keys + b"\r")
        return self.read(rb"\r?\n[^\n]+\r?\n(.|\n)*> ").split(b"\n", 1)[-1]

    def end(self, seconds=10):
        """The exit status, or -9 when it had to be killed."""
        self.read(rb"(?!)", 0.2)
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            self.read(rb"(?!)", 0.05)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.fd)
        return -9


def editing_and_history():
    with tempfile.TemporaryDirectory() as home:
        chat = Terminal("chat", "--temp", "0", home=home)
        check("chat prompts", b"> " in chat.read(rb"> "))
        plain = chat.ask(b"What is 2 + 5?")
        check("chat answers", b"7" in plain, plain)
        chat.type(b"/clear\r/nothing\r")
        chat.read(rb"commands:[^\n]*\n(.|\n)*> ")  # both were heard: the next prompt is the next question's
        edited = chat.ask(b"hat is 2 + 4" + ERASE + b"5" + LEFT * 3 + CTRL_A + b"W" + b"\x05" + b"?")
        check("erase, arrows, ^A and ^E edit the line: the answer is that of the edited one", b"7" in edited, edited)
        again = chat.ask(UP)
        check("an arrow brings back the last line", b"7" in again, again)
        chat.type(b"/quit\r")
        check("/quit ends with 0", chat.end() == 0)
        history = pathlib.Path(home, ".tandem_history")
        kept = history.read_text(encoding="utf-8").replace("\\040", " ") if history.exists() else ""
        check("the history is kept", "What is 2 + 5?" in kept, kept)
        chat = Terminal("chat", "--temp", "0", home=home)
        chat.read(rb"> ")
        chat.type(UP * 2)
        shown = chat.read(rb"2 \+ 5\?", 5)
        check("another session has it", b"What is 2 + 5?" in shown, shown)
        chat.type(CTRL_A + CTRL_K + CTRL_D)
        check("^D on an empty line ends with 0", chat.end() == 0)


def interrupts():
    with tempfile.TemporaryDirectory() as home:
        chat = Terminal("chat", "--temp", "1", "--seed", "3", home=home)
        chat.read(rb"> ")
        chat.type(LONG.encode() + b"\r")
        begun = chat.read(rb"story\.(.|\n)*\n(.|\n)*[a-z]{3}", 10)
        chat.type(CTRL_C)
        rest = chat.read(rb"> ", 5)
        check("^C stops the answer, and the prompt is back", b"> " in rest, begun + rest)
        whole = Terminal("chat", "--temp", "1", "--seed", "3", home=home)
        whole.read(rb"> ")
        uncut = whole.ask(LONG.encode())
        whole.type(CTRL_D)
        whole.end()
        check("the answer was cut", 3 * len(begun + rest) < 2 * len(uncut), (begun + rest, uncut))
        after = chat.ask(b"What is 2 + 5?")
        check("the conversation goes on after ^C", b"7" in after, after)
        chat.type(b"What is 2 + 9 and" + CTRL_C)
        chat.read(rb"\n> ", 2)
        after = chat.ask(b"What is 2 + 5?")
        check("^C at the prompt forgets the line, and the conversation goes on", b"7" in after, after)
        chat.type(CTRL_D)
        check("^D ends with 0", chat.end() == 0)


def progress_bar():
    with tempfile.TemporaryDirectory() as folder:
        model, copy = os.path.join(folder, "model.gguf"), os.path.join(folder, "copy.gguf")
        subprocess.run([TANDEM, "synth", model, "--like", "qwen3-0.6b", "--layers", "2", "--divide", "4", "--dtype", "bf16"], check=True, capture_output=True)
        ids = ["--ids", "1,2", "--out", os.path.join(folder, "l.npy"), "--quant", "q8_0"]
        for verb, arguments in (("quantising", ["logits", model, *ids]), ("writing", ["convert", model, copy, "--quant", "q8_0"])):
            terminal = Terminal(*arguments)
            shown = terminal.read(rb"(?!)", 5)
            check(f"a bar shows {verb} on a terminal", terminal.end() == 0 and re.search(rb"\r[^\n]*" + verb.encode() + rb"[^\n]*\d+ ?%", shown), shown)
            if os.path.exists(copy):
                os.unlink(copy)
            piped = subprocess.run([TANDEM, *arguments], capture_output=True, timeout=60)
            check(f"no bar of {verb} in a file or pipe", piped.returncode == 0 and b"\r" not in piped.stderr and b"%" not in piped.stderr, piped)


if __name__ == "__main__":
    for part in (editing_and_history, interrupts, progress_bar):
        part()
    sys.exit(1 if failures else 0)
