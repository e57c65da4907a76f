"""A real browser, or the reason why there is none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ADD_BROWSER = "no browser: apt-get install -y chromium, and pip install playwright"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


@contextmanager
def open_browser() -> Iterator[Any]:
    """Chromium. Until it closes, this thread has an event loop, so `asyncio.run` fails in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason=ADD_BROWSER)
    if CHROMIUM is None:
        assert not os.environ.get("NAMEPIN_REQUIRE_SYSTEM"), ADD_BROWSER
        pytest.skip(ADD_BROWSER)
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
