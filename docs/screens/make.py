"""Makes the pictures of this folder: `make screens` plays the demo and photographs its pages.

A real browser looks at a real registry with made-up members. The pictures are made anew from
the pages as they are, so that the README cannot show what is not there.
"""

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

HERE = Path(__file__).parent
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
MEMBER_PHONE = "081-555-0102"
PHONE_WIDTH, DESK_WIDTH, HEIGHT = 420, 1180, 860
START_SECONDS = 240
CODE_SECONDS = 20
PORTAL = (
    ("th", "", "portal-home-th"),
    ("en", "", "portal-home-en"),
    ("zh-Hant", "requests", "portal-requests-zh"),
    ("th", "readers", "portal-readers-th"),
    ("en", "history", "portal-history-en"),
)
CONSOLE = (
    ("", "console-home"),
    ("requests", "console-queue"),
    ("trail", "console-trail"),
    ("consents", "console-consents"),
    ("ropa", "console-ropa"),
    ("duplicates", "console-duplicates"),
)


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[dict[str, Any]]:
    """Serve the demo from a folder of its own; gives its credentials file."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from service.cli import main; main()"]
    with (folder / "demo.log").open("wb") as log:
        served = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data"), "demo", "--port", str(port)],
            stdout=log,
            stderr=log,
            cwd=HERE.parents[1],
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while b"Serving on" not in (folder / "demo.log").read_bytes():
                if served.poll() is not None or time.monotonic() > deadline:
                    sys.exit((folder / "demo.log").read_text(encoding="utf-8"))
                time.sleep(0.1)
            file = folder / "data" / "demo-credentials.json"
            yield json.loads(file.read_text(encoding="utf-8"))
        finally:
            served.terminate()
            served.wait()


def newest_code(demo: dict[str, Any], known: int) -> str:
    """Wait for the code that comes after so many others."""
    deadline = time.monotonic() + CODE_SECONDS
    while len(codes(demo)) <= known:
        if time.monotonic() > deadline:
            sys.exit("no code was sent")
        time.sleep(0.05)
    return codes(demo)[-1]


def codes(demo: dict[str, Any]) -> list[str]:
    """Give the codes that went out so far, the oldest first."""
    lines = Path(demo["outbox"]).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["code"] for line in lines]


def open_page(browser: Browser, base_url: str, *, width: int, scheme: str) -> Page:
    """Open a browser window without scripts."""
    context = browser.new_context(
        base_url=base_url,
        java_script_enabled=False,
        viewport={"width": width, "height": HEIGHT},
        color_scheme=scheme,
    )
    return context.new_page()


def take(page: Page, name: str) -> None:
    """Photograph what the window shows."""
    page.screenshot(path=HERE / f"{name}.png", animations="disabled")
    print(f"docs/screens/{name}.png")


def photograph_portal(browser: Browser, demo: dict[str, Any]) -> None:
    """Sign a member of the demo in and look at what she holds, allows, and may ask."""
    page = open_page(browser, demo["base_url"], width=PHONE_WIDTH, scheme="light")
    page.goto("/th/join")
    take(page, "portal-join-th")
    page.goto("/th/")
    known = len(codes(demo))
    page.fill("#contact", MEMBER_PHONE)
    page.click("form[action$='/sign-in'] button")
    page.fill("#code", newest_code(demo, known))
    page.click("form[action$='/code'] button")
    page.wait_for_selector("form[action$='/sign-out']")
    for lang, place, name in PORTAL:
        page.goto(f"/{lang}/{place}")
        take(page, name)


def photograph_console(browser: Browser, demo: dict[str, Any]) -> None:
    """Sign the officer in and look at the queue, the trail and the numbers."""
    page = open_page(browser, demo["base_url"], width=DESK_WIDTH, scheme="light")
    officer = demo["staff"]["dpo"]
    page.goto("/console/sign-in?lang=en")
    page.fill("input[name=name]", officer["name"])
    page.fill("input[name=password]", officer["password"])
    page.click("main form button")
    page.wait_for_selector("form[action$='/sign-out']")
    for place, name in CONSOLE:
        page.goto(f"/console/{place}")
        take(page, name)
    page.goto("/console/requests")
    page.locator("main table a").first.click()
    take(page, "console-request")
    page.goto("/console/trail")
    page.locator("main table a").first.click()
    take(page, "console-event")


def main() -> None:
    """Play the demo and make every picture."""
    if not CHROMIUM.exists():
        sys.exit("no /usr/bin/chromium; install the Debian package chromium")
    with (
        tempfile.TemporaryDirectory(prefix="yinyom-screens-") as folder,
        demo(Path(folder)) as played,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        photograph_portal(browser, played)
        photograph_console(browser, played)
        browser.close()


if __name__ == "__main__":
    main()
