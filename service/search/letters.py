"""How the search process writes names: one byte a Thai or Latin letter, and no ambiguity.

TIS-620 (ISO 8859-11) holds Thai and ASCII in one byte each; every other character is a lead byte
and digits that stand for nothing else. A piece of one character is never a character, so bytes
are found exactly where the letters are. That is a third of UTF-8 for Thai, and as much faster to
look through.
"""

import codecs

RECORD_END = 0
PART_END = 1
_CODEC = "iso8859_11"
_WIDE = "yinyom-wide"
_DIGITS = 33
"""0x80 to 0xA0: control characters in the codec, which no name has (see `search_form`)."""
_FIRST_DIGIT = 0x80
_LOW, _HIGH, _FAR = 0xFF, 0xFE, 0xFD
_HALF = _DIGITS**3


def to_letters(text: str) -> bytes:
    """Write a text that `search_form` gave."""
    return text.encode(_CODEC, _WIDE)


def _wide(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = b"".join(_escaped(ord(one)) for one in error.object[error.start : error.end])
    return letters, error.end


def _escaped(code: int) -> bytes:
    if code < _HALF:
        return _digits(_LOW, code, 3)
    if code < 2 * _HALF:
        return _digits(_HIGH, code - _HALF, 3)
    return _digits(_FAR, code, 4)


def _digits(lead: int, number: int, count: int) -> bytes:
    written = bytearray(1 + count)
    written[0] = lead
    for at in range(count, 0, -1):
        number, digit = divmod(number, _DIGITS)
        written[at] = _FIRST_DIGIT + digit
    return bytes(written)


codecs.register_error(_WIDE, _wide)
