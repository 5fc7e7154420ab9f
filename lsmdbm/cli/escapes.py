r"""Escapes: bytes as text that may be shown on any terminal, and back.

    escaped text := printable characters, but `\` | `\\` | `\t` | `\n` | `\r` | `\x` and two hex digits

Rules
  1. Every byte string has one escaped text, and `unescaped` gives the bytes back.
  2. No escaped text has a control character, nor one that changes the direction or looks of others.

Thread safety: pure functions.  Spec: docs/cli.md, Keys and values.
"""

from __future__ import annotations

import ast
import re

NAMED = {0x09: r"\t", 0x0A: r"\n", 0x0D: r"\r", 0x5C: r"\\"}
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|[tnr\\])|\\")
_BYTES = {text[1:].encode(): bytes((code,)) for code, text in NAMED.items()}
_LITERAL = re.compile(r"""[bB](?P<quote>['"]).*(?P=quote)""", re.DOTALL)


def escaped(data: bytes, *, is_ascii: bool = False) -> str:
    r"""Return bytes as text without control characters (rule 1).

    Args:
        is_ascii: escape all that is not ASCII too.

    >>> print(escaped(b"green\t\\\x1b[2J\xff"), escaped("gr\u00fcn".encode(), is_ascii=True))
    green\t\\\x1b[2J\xff gr\xc3\xbcn
    """
    text = data.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text and (text.isascii() or not is_ascii):
        return text
    return "".join([_character(character, is_ascii) for character in text])


def _character(character: str, is_ascii: bool) -> str:
    if character != "\\" and character.isprintable() and (character.isascii() or not is_ascii):
        return character
    data = character.encode("utf-8", "surrogateescape")
    return "".join([NAMED.get(byte) or f"\\x{byte:02x}" for byte in data])


def unescaped(text: str) -> bytes:
    r"""Return the bytes that `escaped` made a text of.

    Raises:
        ValueError: a backslash begins no escape.

    >>> unescaped(r"a\x00\\")
    b'a\x00\\'
    """

    def byte(match: re.Match[bytes]) -> bytes:
        code = match[1]
        if code is None:
            raise ValueError(rf"a backslash that begins none of \\, \t, \n, \r, \xNN: {text[:80]!r}")
        return _BYTES.get(code) or bytes.fromhex(code[1:].decode())

    return _ESCAPE.sub(byte, text.encode("utf-8", "surrogateescape"))


def shown(data: bytes, limit: int = 40, *, is_ascii: bool = False) -> str:
    """Return bytes escaped and, if they are longer than `limit`, cut off.

    >>> shown(b"a" * 100, 10)
    'aaaaaaaaaa...'
    """
    return escaped(data[:limit], is_ascii=is_ascii) + ("..." if len(data) > limit else "")


def line(text: str) -> str:
    """Return the text of an error as one line that may be shown."""
    return "".join(
        character if character.isprintable() else _character(character, False)
        for character in text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    )


def argument_bytes(text: str, form: str) -> bytes:
    r"""Return a key or value as it was given on the command line.

    Args:
        form: `"text"`, the very bytes that were typed; `"hex"`; or `"repr"`, what Python shows of bytes, with
            or without the b and the quotes around.

    Raises:
        ValueError: it is not of that form.

    >>> argument_bytes("a", "text"), argument_bytes("00 ff", "hex"), argument_bytes(r"a\0", "repr")
    (b'a', b'\x00\xff', b'a\x00')
    """
    if form == "text":
        return text.encode("utf-8", "surrogateescape")
    try:
        return bytes.fromhex(text) if form == "hex" else _literal(text)
    except (ValueError, SyntaxError):
        what = "hex digits, two for each byte" if form == "hex" else "the repr of bytes"
        raise ValueError(f"not {what}: {text[:80]!r}") from None


def _literal(text: str) -> bytes:
    if _LITERAL.fullmatch(text) is None:
        quoted = re.sub(r"(\\.)|'", lambda match: match[1] or r"\'", text, flags=re.DOTALL)
        text = f"b'{quoted}'"
    found = ast.literal_eval(text)
    if not isinstance(found, bytes):
        raise ValueError
    return found
