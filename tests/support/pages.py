"""A user's actions on the page, in a real browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.paths import ROOT
from support.waiting import PATIENCE_S

ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
MESSAGE = "#np-text"


def visit(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A fresh browser at the page; asserts at the end that nothing came from elsewhere and no script complained."""
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, "reduced_motion": "reduce", **options})
    tab = context.new_page()
    asked: list[str] = []
    broken: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: broken.append(str(error)))
    tab.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
    tab.set_default_timeout(1000 * PATIENCE_S)
    tab.goto(address)
    tab.wait_for_selector(MESSAGE)
    try:
        yield tab
    finally:
        context.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == [], "it works offline"
    assert not broken, f"a script complained: {broken}"


def send(tab: Any, text: str, turns: int) -> Any:
    """Type a message, press Enter, wait for the whole answer; the last turn."""
    tab.fill(MESSAGE, text)
    tab.press(MESSAGE, "Enter")
    return answer(tab, turns)


def answer(tab: Any, turns: int) -> Any:
    """The last turn, once it is whole and the next message can be sent."""
    tab.wait_for_function(f"document.querySelectorAll('#np-past .np-turn').length === {turns}")
    tab.wait_for_selector("#np-composer:not([aria-busy=true])")
    return tab.locator("#np-past .np-turn").last


def give_picture(tab: Any, path: Path = ASTRONAUT) -> None:
    tab.set_input_files("#np-file", str(path))
    tab.wait_for_selector("#np-preview:not([hidden])")


def problem_of(tab: Any) -> str:
    """What the composer says is wrong."""
    return str(tab.locator("#np-say.bad").inner_text())
