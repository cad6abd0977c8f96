"""Finding out how a file's bytes spell its text, or saying that it cannot be known.

Thai cp874 and Chinese Big5 both give a meaning to almost any bytes, so "it decodes" proves
little. A legacy encoding is believed only if the whole file decodes strictly *and* its header
row then reads as known Thai or Chinese column names, and only if no other one passes as well.
"""

import codecs
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import BinaryIO, Final

from members.importing.errors import ImportFileError

CODECS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "utf-8": "utf-8-sig",
        "utf8": "utf-8-sig",
        "utf-8-sig": "utf-8-sig",
        "utf-16": "utf-16",
        "cp874": "cp874",
        "windows-874": "cp874",
        "tis-620": "cp874",
        "tis620": "cp874",
        "iso-8859-11": "cp874",
        "big5": "cp950",
        "cp950": "cp950",
    }
)
"""Encodings that may be declared, with the codec that reads them.

cp874 and cp950 are the Windows supersets that actual exports of TIS-620 and Big5 are written in.
"""

_LEGACY: Final = ("cp874", "cp950")
_CHUNK_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 1 << 16
_SPREADSHEET_MARKS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # xlsx (zip), xls (OLE2)
_UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decide_encoding(
    stream: BinaryIO, declared: str, names_known_columns: Callable[[str], bool]
) -> str:
    """Return the codec for the whole of `stream`, which decodes strictly with it.

    `names_known_columns` says whether the beginning of a decoded text starts with column names
    known in another script than Latin. Raises `ImportFileError` (`encoding`, `not_csv`).
    """
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    if head.startswith(_SPREADSHEET_MARKS):
        raise ImportFileError(
            "this is an old spreadsheet or an archive, not CSV or XLSX", reason="not_csv"
        )
    if declared != "auto":
        codec = CODECS[declared]
        if codec in _LEGACY and head.startswith((codecs.BOM_UTF8, *_UTF16_MARKS)):
            raise ImportFileError(
                f"the file begins with a Unicode mark, so it is not {declared}", reason="encoding"
            )
        _decode_all(stream, codec)
        return codec
    if head.startswith(_UTF16_MARKS):
        _decode_all(stream, "utf-16")
        return "utf-16"
    if head.startswith(codecs.BOM_UTF8) or _decodes(stream, "utf-8-sig"):
        _decode_all(stream, "utf-8-sig")
        return "utf-8-sig"
    fitting = [
        codec
        for codec in _LEGACY
        if names_known_columns(head.decode(codec, errors="replace")) and _decodes(stream, codec)
    ]
    if len(fitting) != 1:
        raise ImportFileError(
            "the text is not UTF-8 and its header row does not settle which encoding it is",
            reason="encoding",
        )
    return fitting[0]


def _decodes(stream: BinaryIO, codec: str) -> bool:
    try:
        _decode_all(stream, codec)
    except ImportFileError:
        return False
    return True


def _decode_all(stream: BinaryIO, codec: str) -> None:
    """Decode the stream chunk by chunk and forget the text; an error names the line."""
    decoder = codecs.getincrementaldecoder(codec)(errors="strict")
    stream.seek(0)
    line = 1
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            line += decoder.decode(chunk).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        if isinstance(error, UnicodeDecodeError):
            line += error.object[: error.start].count(b"\n")
        raise ImportFileError(
            f"line {line} has bytes that {codec} does not know", reason="encoding"
        ) from None
