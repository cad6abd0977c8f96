"""Server-rendered pages: the templates, the headers they travel under, and the addresses of files.

No page needs a script, so none may run: the policy forbids everything that does not come from
this origin as a style, an image or a font. A text that somebody else typed can at worst be ugly.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kernel.i18n import Catalogue
from kernel.web import NO_STORE

_HERE = Path(__file__).parent
TEMPLATES = _HERE / "templates"
LOCALE = _HERE / "locale"
STATIC = _HERE / "static"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # With `no-referrer`, browsers would send `Origin: null` on our own forms.
    "Referrer-Policy": "same-origin",
    **NO_STORE,
}
_HASH_LETTERS = 12


@cache
def load_catalogue(folder: Path = LOCALE) -> Catalogue:
    """Read the texts of pages, once in a process; `ValueError` when a language lacks one."""
    return Catalogue(folder)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        cache_size=-1,
    )
    environment.globals["static"] = _addresses()
    return environment


class Pages:
    """Renders templates; autoescaped, and an undefined name is an error, never a blank."""

    def render(self, template: str, **context: Any) -> str:
        """Render a template of `service/templates`, which is read once in a process."""
        return _environment().get_template(template).render(**context)

    def answer(self, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
        """Answer with a page under the headers that every page has."""
        return HTMLResponse(self.render(template, **context), status, PAGE_HEADERS)


def _addresses() -> dict[str, str]:
    """Give each static file's address; its hash in it makes a new file a new address."""
    addresses: dict[str, str] = {}
    for file in sorted(STATIC.iterdir()):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:_HASH_LETTERS]
        addresses[file.name] = f"/static/{file.name}?v={digest}"
    return addresses
