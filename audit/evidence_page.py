"""The page of an evidence pack: one file that checks a pack in a browser, without a network.

It is put together from three files beside this one. The policy in it allows exactly its own
script and its own style, by their hashes, and nothing else: no request can leave the page.
"""

import base64
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

_HERE = Path(__file__).parent


@lru_cache(maxsize=1)
def page() -> str:
    """Give the page as HTML."""
    script, style = (_text(f"evidence_page.{kind}") for kind in ("js", "css"))
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    return (
        _text("evidence_page.html")
        .replace("@POLICY@", f"{policy}; base-uri 'none'; form-action 'none'")
        .replace("@STYLE@", style)
        .replace("@SCRIPT@", script)
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode()
