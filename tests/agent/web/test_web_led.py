"""The page where a chat model leads and a tracer makes heat maps: streaming, limits, heat maps, close decisions."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import tiny_gem
from support.chat_server import Server, Step, serve
from support.pages import MESSAGE, answer, give_picture, send, visit
from support.processes import environment, free_port, running_namepin

POST = "So proud of Eileen Collins, first woman to command Columbia"
PROFILE = """
graph = "gem"
[tagger]
backend = "dual"
[match]
threshold = 0.0
[review]
match_margin = 1.0
[matcher]
backend = "blip"
blip = {{ weights = "{0}/blip", device = "cpu" }}
[tracer]
backend = "blip"
block = 1
blip = {{ weights = "{0}/blip", device = "cpu" }}
[segmenter]
backend = "sam"
sam = {{ weights = "{0}/sam", device = "cpu" }}
"""


@pytest.fixture(scope="module")
def model() -> Iterator[Server]:
    with serve("nothing") as server:
        yield server


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, model: Server) -> Iterator[str]:
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("led")
    tiny_gem.tiny_blip.save_folder(tiny_gem.tiny_blip.tiny_net(), folder / "blip")
    tiny_gem.tiny_sam.save_folder(tiny_gem.tiny_sam.tiny_net(), folder / "sam")
    (folder / "tiny.toml").write_text(PROFILE.format(folder))
    env = environment(NAMEPIN_DATA_DIR=str(folder / "data"))
    flags = ["--profile", str(folder / "tiny.toml"), "--set", "chat.model=m", "--set", f"chat.base_url={model.url}"]
    flags += ["--set", "chat.model_calls=3", "--set", "chat.tool_calls=2"]
    with running_namepin("serve", *flags, port=free_port(), env=env, cwd=folder) as url:
        yield url


def lead(model: Server, *script: Step) -> None:
    """What the model says next; the last step again and again."""
    model.script[:], model.bodies[:] = script, []


def test_led_web_page_streams_answer_and_calls_tools(tab: Any, model: Server, address: str) -> None:
    give_picture(tab)
    lead(model, ("extract", {"text": POST}), "Found Eileen Collins there .")
    model.go_on.clear()
    try:
        tab.fill(MESSAGE, f"Who is in this? {POST}")
        tab.press(MESSAGE, "Enter")
        tab.wait_for_function("document.querySelector('#np-now .np-text')?.innerText.trim() === 'Found'")
        steps = tab.locator("#np-now .np-steps").inner_text()
        assert "Find the names and their types" in steps and "Put the answer together" in steps, "as they happened"
        assert tab.request.get(f"{address}/page/answering").json() == {"answering": True}
    finally:
        model.go_on.set()
    turn = answer(tab, 1)
    assert tab.request.get(f"{address}/page/answering").json() == {"answering": False}
    assert turn.locator("a.mention").first.inner_text().startswith("Eileen Collins")
    assert turn.locator(".np-text").inner_text() == "Found Eileen Collins there ."
    assert "picture" not in json.dumps(model.bodies[0]["messages"][-1]), "pixels stay here"

    lead(model, ("explain", {"which": "1"}), "By its match score .")
    turn = send(tab, "why is she in the picture?", 2)
    words = turn.locator(".np-text").all_inner_texts()
    assert "match score" in words[0] and "Eileen Collins:" in words[0], "what the tool said"
    assert words[1] == "By its match score ."
    asked, answered = model.bodies
    assert asked["messages"][-1]["content"] == "why is she in the picture?"
    assert "match score" in json.loads(answered["messages"][-1]["content"])["explanation"]


def test_led_web_page_with_endless_tool_calls_stops_and_shows_limit(tab: Any, model: Server) -> None:
    lead(model, ("extract", {"text": "Norah Jones in Rotterdam"}))
    turn = send(tab, "go", 1)
    assert len(model.bodies) == 3
    assert turn.locator("article").count() == 2, "and tools are bounded, too"
    assert "limit" in turn.locator(".np-text").last.inner_text()


def read(tab: Any, model: Server) -> Any:
    give_picture(tab)
    lead(model, ("extract", {"text": POST}), "Done .")
    return send(tab, POST, 1)


def test_led_page_heat_maps_toggle_by_name(tab: Any, model: Server, tmp_path: Path, browser: Any, address: str) -> None:
    turn = read(tab, model)
    maps, names = turn.locator("img.heat"), turn.locator(".warmth label")
    assert maps.count() == turn.locator(".entities > li").count() >= 2
    assert names.count() == 1 + maps.count() and names.nth(1).inner_text().split() == ["1", "Eileen", "Collins"]
    assert not any(one.is_visible() for one in [*maps.all(), turn.locator(".scale")])
    drawn = "image => image.decode().then(() => image.naturalWidth)"

    names.nth(1).click()
    chosen = names.nth(1).locator("input").evaluate("input => input.checked && getComputedStyle(input).appearance")
    assert chosen == "auto", "Gradio's rules would hide which one is chosen"
    assert maps.nth(0).is_visible() and not maps.nth(1).is_visible()
    assert maps.nth(0).evaluate(drawn) == 256
    assert maps.nth(0).bounding_box() == turn.locator(".stage img").first.bounding_box(), "it lies on the picture"
    assert "scale of its own" in turn.locator(".scale").inner_text()
    assert turn.locator(".stage path").first.evaluate("mask => getComputedStyle(mask).fillOpacity") == "0"
    tab.keyboard.press("ArrowRight")
    assert maps.nth(1).is_visible() and not maps.nth(0).is_visible(), "one at a time, by the keyboard as well"
    names.first.click()
    assert not any(one.is_visible() for one in [*maps.all(), turn.locator(".scale")])

    own = str(maps.first.get_attribute("src"))
    for other in visit(browser, address):
        assert other.request.get(f"{address}{own}").status == 404, "it is this browser's"
    assert tab.request.get(f"{address}{own.replace('heat/0', 'heat/99')}").status == 404
    with tab.expect_download() as waiting:
        turn.get_by_role("link", name="HTML", exact=True).click()
    waiting.value.save_as(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8").count('src="data:image/png;base64,') == maps.count()


def test_led_web_page_review_applies_decisions(tab: Any, model: Server, browser: Any, address: str) -> None:
    turn = read(tab, model)
    names = turn.locator(".entities > li").count()
    turn.get_by_role("button", name=f"Decide the {names} close calls yourself").click()
    form = tab.locator("form.np-review")
    assert "Is 'Eileen Collins' in the picture?" in form.inner_text()
    hint = form.locator(".np-hint").first.inner_text()
    assert f"{names} in this step" in hint and "may follow" not in hint, "places are asked last"
    choices = form.locator("fieldset").first.locator(".np-choice").all_inner_texts()
    assert [choice.split(" · ")[1:] for choice in choices] == [["Namepin’s own"], []], "whose answer is whose"
    tab.route("**/drop", lambda route: (tab.focus(MESSAGE), route.continue_()))
    form.get_by_role("button", name="Not now").click()
    turn.locator(".np-begin").wait_for()
    assert tab.evaluate("document.activeElement.id") == "np-text", "who writes on is not interrupted"
    turn.locator(".np-begin").click()
    form.get_by_role("button", name="Decide", exact=True).click()
    assert form.is_visible(), "every question wants its answer"

    tab.reload()
    form.wait_for()
    tab.focus(f"form.np-review fieldset:nth-of-type({names}) input")
    for number in range(names):
        form.locator("fieldset").nth(number).get_by_label("no" if number == 0 else "yes").check()
    review = form.get_attribute("data-review")
    for other in visit(browser, address):
        for door in ("answers", "row", "drop"):
            address_of_it = f"{address}/page/reviews/{review}/{door}"
            assert other.request.post(address_of_it, data={"answers": {"place:0": "yes"}}).status == 404
    form.get_by_role("button", name="Decide", exact=True).click()
    turn = answer(tab, 2)
    assert "'Eileen Collins' is not in the picture" in turn.locator(".np-said").inner_text()
    first = turn.locator(".entities > li").first
    assert "Not in the picture" in first.inner_text()
    assert turn.locator("img.heat").count() == names - 1, "the result has heat maps of its own"
    assert turn.locator(".np-begin, form").count() == 0 and "not in the picture" in spoken(tab)

    turn.get_by_role("button", name="Keep as a training row").click()
    turn.get_by_text("Your training rows hold 1 post.").wait_for()
    with tab.expect_download() as waiting:
        turn.get_by_role("link", name="Download the rows (ZIP)").click()
    with zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes())) as rows:
        assert "Eileen\tB-person\tB-" in rows.read("tagger/txt_fine/train.txt").decode()

    lead(model, ("explain", {"which": "1"}), "You said so .")
    assert "review" in send(tab, "why?", 3).locator(".np-text").first.inner_text(), (
        "follow-ups are about what was decided"
    )
    assert [m["role"] for m in model.bodies[0]["messages"]][-5:] == ["user", "assistant", "tool", "assistant", "user"]


def spoken(tab: Any) -> str:
    return str(tab.locator("#np-spoken [role=status]").inner_text())
