"""The page's accessibility by axe-core in Chromium: no serious finding in any state, light and dark."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.pages import MESSAGE, answer, give_picture, send, visit
from support.processes import environment, free_port, running_namepin

TOKEN = "a" * 20


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("axe")
    flags = ["--set", "review.match_margin=1"]
    with running_namepin(
        "serve", *flags, port=free_port(), env=environment(NAMEPIN_DATA_DIR=str(folder)), cwd=folder
    ) as url:
        yield url


def findings(tab: Any) -> list[str]:
    """The serious and critical findings, each with its first elements."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(tab, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_web_page_in_every_state_has_no_serious_axe_finding(
    browser: Any, address: str, tmp_path: Path, scheme: str
) -> None:
    told: dict[str, list[str]] = {}
    for tab in visit(browser, address, color_scheme=scheme):
        tab.wait_for_selector(".np-example")
        told["empty"] = findings(tab)
        tab.press(MESSAGE, "Enter")
        told["error at the field"] = findings(tab)
        give_picture(tab)
        tab.fill(MESSAGE, "So proud of Eileen Collins, the first woman to command a Space Shuttle")
        told["composing"] = findings(tab)
        tab.press(MESSAGE, "Enter")
        answer(tab, 1)
        for summary in tab.locator("#np-past summary").all():
            summary.click()
        tab.locator("#np-past .chip").first.click()
        told["result"] = findings(tab)
        tab.locator(".np-begin").click()
        tab.wait_for_selector(".np-review")
        told["review"] = findings(tab)
        tab.locator(".np-later").click()
        tab.wait_for_selector(".np-begin")
        for turn, message in enumerate(["help", "mask the first one", "as CSV", "Norah Jones plays in Rotterdam"], 2):
            send(tab, message, turn)
        told["conversation"] = findings(tab)
        tab.get_by_role("tab", name="Batch").click()
        told["batch"] = findings(tab)
        (tmp_path / "posts.jsonl").write_text(json.dumps({"text": "Norah Jones in Rotterdam"}) + "\n{\n")
        tab.set_input_files("#np-posts", str(tmp_path / "posts.jsonl"))
        tab.get_by_role("button", name="Start").click()
        tab.wait_for_selector('.np-job[data-state="done"]')
        for summary in tab.locator(".np-batch summary").all():
            summary.click()
        tab.wait_for_selector(".np-table-of td")
        told["job"] = findings(tab)
    assert told == {state: [] for state in told}


def test_login_page_has_no_serious_axe_finding(browser: Any, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    env = environment(NAMEPIN_DATA_DIR=str(tmp_path), NAMEPIN_TOKENS=f"ann={TOKEN}")
    with running_namepin("serve", port=free_port(), env=env, cwd=tmp_path) as url:
        tab = browser.new_page()
        tab.goto(f"{url}/login")
        assert findings(tab) == []
        tab.fill("#token", "wrong")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("[role=alert]")
        assert findings(tab) == []
        tab.close()
