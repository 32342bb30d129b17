"""What a refusal of the program looks like: one sentence on stderr. Shared by the tests of bad input."""


def one_sentence(err):
    """None, or what is wrong with stderr of a refusal."""
    try:
        text = err.decode("utf-8")
    except UnicodeDecodeError:
        return "stderr is not UTF-8"
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) != 1:
        return f"expected one sentence on stderr, found {len(lines)} lines: {text[:300]!r}"
    if not lines[0].startswith("tandem: ") or not 15 < len(lines[0]) < 600:
        return f"expected 'tandem: ' and a sentence of at most 600 bytes, found {len(lines[0])} bytes: {lines[0][:300]!r}"
    if any(ord(c) < 32 for c in lines[0]):
        return f"control characters in {lines[0][:300]!r}"
    return None
