"""The folders of a pack: the packaged one, and the customer's own laid over it.

Text is brought to one canonical form before anything reads or hashes it, so that an editor's
line endings or a decomposed tone mark never make a different policy. Whoever can write the
overlay folder makes policy; the digest is what approvals and the audit log bind to.
"""

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.errors import Finding

PACKAGED = Path(__file__).parent / "pack"

MODEL_FILE = "roles/model.conf"
POLICY_FILE = "roles/policy.csv"
NOTICE_TEXT = re.compile(r"notices/([a-z][a-z0-9_]*)/([1-9]\d*)\.(th|en|zh-Hant)\.md")
NOTICE_INDEX = re.compile(r"notices/([a-z][a-z0-9_]*)/notice\.toml")

_TOML = re.compile(
    r"pack\.toml|purposes\.toml|fields\.toml|retention\.toml|emergency\.toml|loyalty\.toml|pii/words\.toml|jurisdictions/[A-Z]{2}\.toml|"
    + NOTICE_INDEX.pattern
)
_IGNORED = {"README.md"}


@dataclass(frozen=True, slots=True)
class Layers:
    """The canonical texts of both folders by path inside the pack."""

    packaged: Mapping[str, str]
    overlay: Mapping[str, str]

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path of either folder, sorted."""
        return tuple(sorted({*self.packaged, *self.overlay}))

    def digest(self) -> str:
        """Hash every file of both folders into one name for the pack."""
        total = hashlib.sha256()
        for layer, texts in (("pack", self.packaged), ("overlay", self.overlay)):
            for path in sorted(texts):
                total.update(f"{layer}/{path}\n{text_hash(texts[path])}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def text(self, path: str) -> str:
        """Give the text in force: the overlay's file, or the packaged one."""
        return self.overlay[path] if path in self.overlay else self.packaged[path]

    def toml(self, path: str, into: list[Finding]) -> dict[str, Any]:
        """Read a TOML file of both folders; a key of the overlay replaces that key."""
        base = _parse(path, self.packaged.get(path, ""), into)
        return _overlaid(base, _parse(path, self.overlay.get(path, ""), into))


def canonical_text(raw: bytes) -> str:
    """Bring a file to UTF-8, NFC, line feeds and exactly one at the end.

    Raises:
        UnicodeDecodeError: the bytes are not UTF-8.
    """
    text = unicodedata.normalize("NFC", raw.decode("utf-8-sig"))
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"


def text_hash(text: str) -> str:
    """Name a canonical text by its SHA-256; for a notice this is its revision."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def read_layers(overlay: Path | None, into: list[Finding]) -> Layers:
    """Read the packaged folder and, if there is one, the overlay."""
    if overlay is None:
        return Layers(_read(PACKAGED, into), {})
    if not overlay.is_dir():
        into.append(Finding(".", "", "the policy folder does not exist", "Make it or unset it"))
        return Layers(_read(PACKAGED, into), {})
    return Layers(_read(PACKAGED, into), _read(overlay, into))


def _read(root: Path, into: list[Finding]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in sorted(root.rglob("*")):
        path = file.relative_to(root).as_posix()
        if file.is_dir() or path in _IGNORED:
            continue
        if not _known(path):
            remedy = "Mend the name or take the file out of the folder"
            into.append(Finding(path, "", "is not a file of a policy pack", remedy))
            continue
        try:
            texts[path] = canonical_text(file.read_bytes())
        except UnicodeDecodeError:
            into.append(Finding(path, "", "is not UTF-8", "Save it as UTF-8"))
        except OSError as problem:
            remedy = "Mend its permissions"
            into.append(Finding(path, "", f"cannot be read ({problem.strerror})", remedy))
    return texts


def _known(path: str) -> bool:
    fixed = path in {MODEL_FILE, POLICY_FILE}
    return fixed or bool(_TOML.fullmatch(path) or NOTICE_TEXT.fullmatch(path))


def _parse(path: str, text: str, into: list[Finding]) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        into.append(Finding(path, "", f"is not TOML: {problem}", "Mend the line named"))
        return {}


def _overlaid(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _overlaid(below, value)
        else:
            merged[key] = value
    return merged
