"""The page in a real browser: it opens from disk, loads nothing, and highlights the name under the pointer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from namepin.agent.render.html import About, page
from namepin.agent.render.view import PostView
from namepin.tools.images import heatmap as heat
from support.agent_samples import full


@pytest.fixture(params=["light", "dark"])
def opened(browser: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page of two posts at phone width; asserts at the end that nothing was fetched and nothing complained."""
    file = tmp_path / "index.html"
    file.write_text(page([full(), full()], About("starter", 0.2)), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=request.param, reduced_motion="reduce")
    asked: list[str] = []
    said: list[str] = []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("console", lambda m: said.append(m.text))
    tab.on("pageerror", lambda e: said.append(str(e)))
    tab.goto(file.as_uri())
    yield tab
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1
    assert said == []
    tab.close()


def lit(tab: Any) -> list[str]:
    return sorted(tab.eval_on_selector_all("#post-1 .on", "parts => parts.map(part => part.tagName.toLowerCase())"))


def opacity(tab: Any, index: int) -> float:
    return float(tab.eval_on_selector(f'#post-1 g[data-e="{index}"]', "g => getComputedStyle(g).opacity"))


def test_page_mention_on_hover_highlights_its_box_only(opened: Any) -> None:
    opened.hover('#post-1 a.mention[data-e="0"]')
    assert lit(opened) == ["a", "a", "a", "g", "li"]
    assert opacity(opened, 0) == 1
    assert opacity(opened, 1) < 0.5, "the others step back"
    assert opened.locator("#post-2 .on").count() == 0, "posts are apart"
    opened.mouse.move(1, 1)
    assert lit(opened) == []


def test_page_box_on_hover_highlights_its_mention(opened: Any) -> None:
    opened.locator("#post-1 .stage").scroll_into_view_if_needed()
    opened.hover('#post-1 g[data-e="1"] rect:last-of-type', position={"x": 60, "y": 120})
    assert opened.locator('#post-1 a.mention.on[data-e="1"]').count() == 1
    assert opened.locator('#post-1 .pin.on[data-e="1"] span').is_visible()


def test_page_mention_on_keyboard_focus_highlights_its_box(opened: Any) -> None:
    opened.locator('#post-1 a.mention[data-e="1"]').focus()
    assert lit(opened) == ["a", "a", "a", "g", "li"]
    opened.keyboard.press("Shift+Tab")
    assert opened.evaluate("document.activeElement.dataset.e") == "0"
    assert opacity(opened, 0) == 1
    opened.keyboard.press("Escape")
    assert lit(opened) == []


def test_page_mention_on_tap_keeps_picture_in_view(opened: Any) -> None:
    opened.click('#post-1 a.mention[data-e="0"]')
    assert opened.locator("#post-1 .stage").evaluate("s => s.getBoundingClientRect().top < innerHeight")
    assert opacity(opened, 0) == 1


def test_page_at_phone_width_has_no_horizontal_scroll(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.set_viewport_size({"width": 320, "height": 640})
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_page_text_and_background_have_contrast_of_7(opened: Any) -> None:
    bright = opened.evaluate(
        """() => ["color", "backgroundColor"].map(name => {
            const channels = getComputedStyle(document.body)[name].match(/[0-9.]+/g).slice(0, 3).map(Number);
            const linear = channels.map(c => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]; })"""
    )
    assert (max(bright) + 0.05) / (min(bright) + 0.05) >= 7


def test_page_heat_map_toggle_shows_one_map_at_once(browser: Any, tmp_path: Path) -> None:
    one = full()
    maps = {index: heat.to_blob(np.eye(4, dtype=np.float32)[::step]) for index, step in ((0, 1), (1, -1))}
    (tmp_path / "index.html").write_text(
        page([PostView(one.extraction, one.picture, maps)], About("gem", 0.2)), "utf-8"
    )
    tab = browser.new_page()
    tab.goto((tmp_path / "index.html").as_uri())
    shown = tab.locator("img.heat:visible")
    assert shown.count() == 0
    tab.get_by_role("radio", name="1 Ada Example").check()
    assert shown.evaluate("image => image.decode().then(() => [image.dataset.heat, image.naturalWidth])") == ["0", 256]
    assert shown.bounding_box() == tab.locator(".stage img").first.bounding_box()
    tab.keyboard.press("ArrowDown")
    assert shown.count() == 1 and shown.get_attribute("data-heat") == "1"
    tab.get_by_role("radio", name="off").check()
    assert shown.count() == 0
    tab.close()


def test_page_cards_without_picture_use_columns_on_wide_screens(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text(page([PostView(full().extraction)], About("starter", 0.2)), encoding="utf-8")
    for width, together in ((1200, True), (390, False)):
        tab = browser.new_page(viewport={"width": width, "height": 844})
        tab.goto(file.as_uri())
        first, second = (tab.locator(".entities > li").nth(number).bounding_box() for number in (0, 1))
        assert (first["y"] == second["y"]) is together
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        tab.close()
