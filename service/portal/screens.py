"""The frame around every page of the portal: language, menu, footer, cookie, error pages."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from kernel import Clock, YinyomError, to_datetime
from kernel.i18n import LANGUAGE_NAMES, Catalogue, Language
from policies import PolicyPack
from service.pages import PAGE_HEADERS, Pages
from service.portal.sessions import State, Visit, put_cookie

ERROR_PAGE = "yinyom.error_page"
_SEE_OTHER = 303


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the frame; `is_here` marks the place one is at."""

    href: str
    text: str
    lang: str
    is_here: bool


class Screens:
    """Shows templates of `portal/` inside the frame."""

    def __init__(self, pages: Pages, catalogue: Catalogue, pack: PolicyPack, clock: Clock) -> None:
        self._pages = pages
        self._catalogue = catalogue
        self._pack = pack
        self._clock = clock

    def show(
        self,
        request: Request,
        language: Language,
        visit: Visit,
        template: str,
        *,
        here: str = "",
        current: str = "",
        status: int = 200,
        **context: Any,
    ) -> Response:
        """Show a page.

        `here` is its place behind `/{lang}/`, which the other languages keep; `current` names
        its entry in the menu.
        """
        answer = self._pages.answer(
            f"portal/{template}.html",
            status=status,
            csrf=visit.csrf,
            is_signed_in=visit.state is State.SIGNED_IN,
            current=current,
            **self._frame(language, here),
            **context,
        )
        if visit.is_new:
            put_cookie(answer, request, visit.token)
        return answer

    def said(self, request: Request) -> str:
        """Give the code of the note that a redirect asks the page to show, if it is one of ours."""
        code = request.query_params.get("said", "")
        return code if self._catalogue.has(f"said.{code}.title") else ""

    def error_page(self, request: Request, language: Language) -> Callable[[YinyomError], Response]:
        """Give what turns an error of this request into a calm page."""

        def show(error: YinyomError) -> Response:
            key = error.i18n_key if self._catalogue.has(f"{error.i18n_key}.title") else ""
            return self._pages.answer(
                "portal/error.html",
                status=error.status,
                key=key or ("error.not-found" if error.status < 500 else "error.internal"),  # noqa: PLR2004 (an HTTP status)
                request_id=request.scope.get("yinyom.request_id", ""),
                is_signed_in=False,
                current="",
                csrf="",
                **self._frame(language, here=""),  # an address may hold what somebody typed
            )

        return show

    def _frame(self, language: Language, here: str) -> dict[str, Any]:
        now = to_datetime(self._clock.now_us())
        notices = {
            purpose.notice: purpose.title.in_language(language)
            for purpose in self._pack.purposes.values()
        }
        return {
            "t": partial(self._catalogue.text, language),
            "lang": language.value,
            "home": f"/{language.value}/",
            "here": here,
            "words_place": partial(words_place, language),
            "languages": [
                Link(f"/{one.value}/{here}", name, one.value, one is language)
                for one, name in LANGUAGE_NAMES.items()
            ],
            "notices": [
                Link(
                    words_place(language, self._pack.current_notice(key, language, now).revision),
                    title,
                    language.value,
                    is_here=False,
                )
                for key, title in notices.items()
            ],
        }


def words_place(language: Language, revision: str) -> str:
    """Give the address at which the words of a revision are shown."""
    return f"/{language.value}/words/{revision.removeprefix('sha256:')}"


def go_to(place: str, request: Request | None = None, token: str | None = None) -> Response:
    """Send the browser on with GET after a form, with its new token if it got one."""
    answer = RedirectResponse(place, _SEE_OTHER, PAGE_HEADERS)
    if request is not None and token is not None:
        put_cookie(answer, request, token)
    return answer
