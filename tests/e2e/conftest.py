"""A served registry and Debian's chromium, for the tests that look through a real browser."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Registry, served_registry
from tests.support.world import (
    _copy,
    installed_sqlite,  # noqa: F401 (fixtures are asked for by name)
)

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = "YINYOM_AXE_JS"
EXPECT_MS = 60_000
"""How long a page is waited for: five seconds, as is usual, are little on a busy machine."""
NPM_SECONDS = 180


@pytest.fixture(scope="session")
def axe_source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker axe-core, which is not ours: from YINYOM_AXE_JS or from npm."""
    named = os.environ.get(AXE)
    if named:
        return Path(named).read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"no axe-core: npm is not installed, and {AXE} names no axe.min.js")
    folder = tmp_path_factory.mktemp("axe")
    try:
        fetched = subprocess.run(
            [npm, "install", "--no-save", "--no-audit", "--no-fund", "axe-core@4"],
            cwd=folder,
            capture_output=True,
            timeout=NPM_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("no axe-core: npm took too long")
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if fetched.returncode != 0 or not script.exists():
        pytest.skip("no axe-core: npm could not fetch it")
    return script.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def registry(
    installed_sqlite: Path,  # noqa: F811 (the fixture)
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Registry]:
    """A registry served by a child process, with the sample clients."""
    from service.settings import Settings

    settings = Settings(data_dir=_copy(installed_sqlite, tmp_path_factory.mktemp("served")))
    many = {"YINYOM_MESSAGES__CODES_PER_ADDRESS": "1000"}  # every browser here has one address
    with served_registry(settings, **many) as served:
        yield served


@pytest.fixture(scope="module")
def chromium(registry: Registry) -> Iterator[object]:
    """A running browser; contexts of it share nothing.

    It keeps an event loop of its own in this thread, in which nothing else may start one: so
    the registry is made before it, and it ends with the module.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="install the extra [test]")
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium; install the Debian package chromium")
    playwright.expect.set_options(timeout=EXPECT_MS)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()
