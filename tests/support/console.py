"""Staff at the console of a world: one account per role, and a browser that signs in as one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from service.staff import Staff, make_staff
from service.staff.passwords import Cost
from service.tasks import system_caller
from tests.support.portal import FIELDS, Browser, Page, portal_world
from tests.support.world import App, Known, World

CHEAP = Cost(n=2**4)
"""A password that is quick to check, for tests that are not about passwords."""


@dataclass
class Office:
    """A world with a member, their client, and one staff account per role."""

    world: World
    crm: App
    member: Known
    staff: dict[str, dict[str, Any]]

    @property
    def runtime(self) -> Any:
        return self.world.runtime

    def browser(self, **details: Any) -> Browser:
        return Browser(self.world, **details)

    async def sign_in(self, role: str, *, lang: str = "en", **details: Any) -> Browser:
        """A browser in which the account of a role is signed in."""
        browser = self.browser(**details)
        await browser.open(f"/console/sign-in?lang={lang}")
        made = self.staff[role]
        page = await browser.send("?lang=" + lang, name=made["name"], password=made["password"])
        assert is_inside(page), page.text
        return browser


def is_inside(page: Page) -> bool:
    """Whether a page of somebody who is signed in."""
    return page.has_form("/console/sign-out")


@asynccontextmanager
async def office(settings: Any, **details: Any) -> AsyncIterator[Office]:
    """An open world behind a console; its passwords are quick to check."""
    usual = Staff.__init__.__kwdefaults__["cost"]
    Staff.__init__.__kwdefaults__["cost"] = CHEAP
    try:
        async with portal_world(settings, **details) as world:
            crm = await world.app("crm")
            consents = {"marketing": "sms", "analytics": None}
            member = await crm.register(FIELDS, consents=consents)
            made = await make_staff(world.runtime.staff, system_caller("cli", "main"), brand="main")
            await world.runtime.sequencer.drain()
            yield Office(world, crm, member, made)
    finally:
        Staff.__init__.__kwdefaults__["cost"] = usual
