"""The page of a real `namepin serve` in a real browser: what people do with it, by mouse, by keyboard, on a phone."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.hostile_texts import PAYLOADS
from support.pages import ASTRONAUT, MESSAGE, answer, give_picture, problem_of, send, visit

POST = "So proud of Eileen Collins, the first woman to command a Space Shuttle"


def test_web_page_with_post_and_picture_answers_questions(tab: Any, address: str, browser: Any, tmp_path: Path) -> None:
    give_picture(tab)
    turn = send(tab, POST + " <img src=x onerror=alert(1)>", 1)
    assert turn.locator("a.mention").first.inner_text().startswith("Eileen Collins")
    assert turn.locator(".text img, .np-said img").count() == 0, "a post is text"
    assert "no chat model" in turn.locator(".np-text").inner_text(), "it says that no model leads"
    assert "Eileen Collins" in tab.locator("#np-spoken [role=status]").inner_text()
    assert turn.locator(".stage img").evaluate("image => image.complete && image.naturalWidth > 0")
    assert not tab.locator("#np-preview").is_visible(), "the picture went with the message"
    assert tab.input_value(MESSAGE) == ""

    # Pointing at a name lights up its place.
    turn.locator("a.mention").first.hover()
    assert turn.locator(".stage g.on").count() == 1

    # Masks and boxes go and come.
    mask, box = turn.locator(".stage path").first, turn.locator(".stage .pin").first
    assert mask.is_visible()
    turn.get_by_label("Masks").uncheck()
    assert not mask.is_visible() and box.is_visible()
    turn.get_by_label("Boxes").uncheck()
    assert not box.is_visible()
    turn.get_by_label("Masks").check()
    assert mask.is_visible()

    # Steps and their durations.
    turn.get_by_text("Steps and times").click()
    assert " ms" in turn.locator(".steps").inner_text()

    # Downloads.
    kinds = {}
    for kind in ("JSON", "CSV", "PNG", "HTML"):
        with tab.expect_download() as waiting:
            turn.get_by_role("link", name=kind, exact=True).click()
        kinds[kind] = (tmp_path / kind, waiting.value.save_as(tmp_path / kind))[0].read_bytes()
    assert json.loads(kinds["JSON"])["entities"][0]["text"] == "Eileen Collins"
    assert kinds["PNG"].startswith(b"\x89PNG") and b"<!doctype html>" in kinds["HTML"]
    assert kinds["CSV"].startswith(b"name,label") and b"Eileen Collins,PER" in kinds["CSV"]

    own = turn.get_by_role("link", name="JSON", exact=True).get_attribute("href")

    # What the page offers to ask claims nothing that the post's result does not say.
    assert turn.locator(".np-suggest").all_inner_texts() == ["explain Space Shuttle", "mask Eileen Collins", "as CSV"]

    # A follow-up, and one that cannot be done.
    assert "face" in send(tab, "why is Eileen Collins in the picture?", 2).inner_text()
    refused = send(tab, "mask the second one", 3).locator(".np-problem")
    assert refused.inner_text().startswith("'Space Shuttle' has no box")
    assert refused.locator("small").inner_text() == "(E330)", "the code comes last, in small print"
    masked = send(tab, "mask the first one", 4)
    assert masked.locator(".stage .dim").is_visible() and masked.locator("article").count() == 0, "just that mask"
    shade = masked.locator(".stage .dim").evaluate(
        "one => [getComputedStyle(one).fill, getComputedStyle(one).fillOpacity]"
    )
    assert shade == ["rgb(0, 0, 0)", "0.72"], "all else is dark"
    assert "Masked Eileen Collins" in masked.locator("figcaption").inner_text()

    # It is still there when the page is loaded again, and in no other browser; what is its own is nobody else's.
    tab.reload()
    tab.wait_for_selector("#np-past article")
    assert tab.locator("#np-past .np-turn").count() == 4
    for other in visit(browser, address):
        other.wait_for_selector("#np-past .np-empty")
        assert other.locator("#np-past .np-turn").count() == 0
        assert other.request.get(f"{address}{own}").status == 404

    tab.get_by_role("button", name="New conversation").click()
    tab.wait_for_selector("#np-past .np-empty")
    assert tab.locator("#np-past .np-turn").count() == 0


def test_web_page_with_bad_file_shows_error_and_sends_text_only(tab: Any, tmp_path: Path) -> None:
    bad = tmp_path / "photo.jpg"
    bad.write_bytes(b"<script>alert(1)</script>")
    tab.set_input_files("#np-file", str(bad))
    tab.wait_for_selector("#np-say.bad")
    assert "Not a picture" in problem_of(tab) and "photo.jpg" not in problem_of(tab)
    assert tab.locator("#np-say small").inner_text() == "(E123)"
    assert not tab.locator("#np-preview").is_visible()
    turn = send(tab, "Norah Jones plays in Rotterdam", 1)
    assert turn.locator("a.mention").count() == 2 and turn.locator("figure").count() == 0
    tab.press(MESSAGE, "Enter")
    assert problem_of(tab) == "Write or paste a post first."
    assert tab.locator(MESSAGE).get_attribute("aria-invalid") == "true"
    tab.fill(MESSAGE, "a")
    assert tab.locator(MESSAGE).get_attribute("aria-invalid") is None, "the next letter takes it back"


def test_web_page_text_beyond_bound_is_refused_and_can_be_cut(tab: Any) -> None:
    tab.fill(MESSAGE, "word " * 1700)
    tab.press(MESSAGE, "Enter")
    assert "at most 8,000 characters" in problem_of(tab)
    assert tab.locator("#np-count").inner_text() == "8,500 of 8,000"
    tab.get_by_role("button", name="Keep the first 8,000 characters").click()
    assert len(tab.input_value(MESSAGE)) == 8000 and not tab.locator("#np-say").is_visible()
    height = tab.locator(MESSAGE).bounding_box()["height"]
    assert 100 < height <= 0.4 * 900, "it grew, and scrolls"
    box = tab.locator("#np-composer").bounding_box()
    assert box["y"] + box["height"] <= 900, "and stays in view"


def test_web_page_table_in_chat_is_copied_and_downloaded_as_csv(tab: Any, tmp_path: Path) -> None:
    send(tab, "Norah Jones plays in Rotterdam", 1)
    tab.get_by_role("button", name="as CSV").click()
    turn = answer(tab, 2)
    assert turn.locator("td").first.inner_text() == "Norah Jones"
    with tab.expect_download() as waiting:
        turn.get_by_role("link", name="Download CSV").click()
    waiting.value.save_as(tmp_path / "names.csv")
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    turn.get_by_role("button", name="Copy as CSV").click()
    turn.get_by_text("Copied.").wait_for()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied == (tmp_path / "names.csv").read_text() and copied.startswith("name,label")


def test_web_page_tap_on_phone_keeps_name_and_box_lit(browser: Any, address: str) -> None:
    for tab in visit(browser, address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True):
        assert tab.locator(".np-camera").is_visible(), "a finger's device has a camera"
        tab.locator(".np-example").first.tap()
        tab.wait_for_selector("#np-past article")
        tab.locator("#np-past .chip").first.tap()
        assert tab.locator("#np-past g.on").count() == 1 and tab.locator("#np-past .pin.on span").is_visible()
        tab.locator("#np-past .text").tap(position={"x": 2, "y": 2})
        assert tab.locator("#np-past .on").count() == 0, "a tap beside the names lets go"


def test_web_page_at_double_zoom_has_no_horizontal_scroll(browser: Any, address: str) -> None:
    """200% of 1280 pixels leaves 640."""
    for tab in visit(browser, address, viewport={"width": 640, "height": 450}, device_scale_factor=2):
        tab.locator(".np-example").nth(3).click()
        tab.wait_for_selector("#np-past article")
        tab.locator("#np-past summary").first.click()
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        place = tab.locator("#np-composer-place").evaluate("e => getComputedStyle(e).position")
        assert place == "static", "on a low screen it covers nothing"


def test_web_page_content_has_one_left_edge(tab: Any) -> None:
    shown = (".np-top svg", "[role=tab]", ".np-empty h2", ".np-example", "#np-drop")
    edges = [tab.locator(one).first.bounding_box()["x"] for one in shown]
    assert max(edges) - min(edges) <= 3, edges


TRANSFER = """async ([event, where]) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 30 });
  canvas.getContext("2d").fillRect(0, 0, 20, 20);
  const file = new File([await new Promise(done => canvas.toBlob(done))], "a.png", { type: "image/png" });
  const data = new DataTransfer();
  data.items.add(file);
  const init = { bubbles: true, cancelable: true };
  const made = event === "paste" ? new ClipboardEvent("paste", { ...init, clipboardData: data })
                                 : new DragEvent("drop", { ...init, dataTransfer: data });
  document.querySelector(where).dispatchEvent(made);
}"""


@pytest.mark.parametrize(("event", "where"), [("paste", MESSAGE), ("drop", "#np-drop")])
def test_web_page_picture_on_paste_or_drop_shows_preview(tab: Any, event: str, where: str) -> None:
    tab.evaluate(TRANSFER, [event, where])
    tab.wait_for_selector("#np-preview:not([hidden])")
    assert tab.locator("#np-size").inner_text() == "40 × 30"
    tab.get_by_role("button", name="Remove picture").click()
    assert not tab.locator("#np-preview").is_visible()
    assert tab.evaluate("picture") == ""


def test_web_page_works_by_keyboard_alone(tab: Any) -> None:
    tab.focus(MESSAGE)
    tab.keyboard.type("post: Norah Jones plays in Rotterdam")
    order = []
    for _ in range(2):
        tab.keyboard.press("Tab")
        order.append(tab.evaluate("document.activeElement.id || document.activeElement.type"))
    assert order == ["np-file", "np-go"]
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#np-past article")
    tab.focus("#np-past a.mention")
    assert tab.locator("#np-past li.on").count() == 1
    outline = tab.locator("#np-past a.mention").first.evaluate("link => getComputedStyle(link).outlineStyle")
    assert outline != "none"
    tab.focus("#np-past summary")
    tab.keyboard.press("Enter")
    assert tab.locator("#np-past details[open]").count() == 1
    tab.get_by_role("tab", name="Post").focus()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert tab.get_by_role("button", name="Start").is_visible()


def test_web_page_controls_have_accessible_names(tab: Any) -> None:
    unnamed = tab.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, select, img, a")].filter(one => {
            if (!one.checkVisibility({ visibilityProperty: true })) return false;
            const name = one.labels?.[0]?.innerText || one.ariaLabel || one.alt || one.innerText || one.title;
            if (one.tagName === "IMG" && one.alt === "" && one.closest("button").innerText) return false;
            return !(name ?? "").trim(); }).map(one => one.outerHTML.slice(0, 200))"""
    )
    assert unnamed == []
    assert tab.locator("h1").count() == 1
    assert tab.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_web_page_on_phone_in_both_schemes_has_contrast_and_no_scroll(browser: Any, address: str, scheme: str) -> None:
    for tab in visit(browser, address, viewport={"width": 390, "height": 844}, color_scheme=scheme):
        tab.locator(".np-example").nth(3).click()
        tab.wait_for_selector("#np-past article")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        weak = tab.evaluate(CONTRAST)
        assert weak == []


CONTRAST = """() => {
  // rgb(r, g, b) of 0 to 255, or color(srgb r g b) of 0 to 1.
  const unit = (colour) => colour.startsWith("color(") ? 255 : 1;
  const channels = (colour) => colour.match(/[0-9.]+/g).map((c, i) => Number(c) * (i < 3 ? unit(colour) : 1));
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const found = channels(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const bright = (colour) => colour.slice(0, 3).map(c => linear(c / 255))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const weak = [];
  for (const one of document.querySelectorAll("h1, h2, h3, p, label, span, button, summary, a, textarea, figcaption")) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !one.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (one.closest(".np-hidden, .mention, .pin")) continue;
    const pair = [bright(channels(getComputedStyle(one).color)), bright(ground(one))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < 4.5) weak.push(`${ratio.toFixed(1)} ${one.outerHTML.slice(0, 120)}`);
  }
  return weak;
}"""


def test_web_page_batch_job_reports_lines_table_and_downloads(tab: Any, tmp_path: Path) -> None:
    lines = [json.dumps({"id": f"p{n}", "text": "Norah Jones in Rotterdam"}) for n in range(4)]
    posts = tmp_path / "tour.zip"
    with zipfile.ZipFile(posts, "w") as archive:
        archive.write(ASTRONAUT, "photos/astronaut.jpg")
        last = json.dumps({"id": "p4", "text": "Proud of Eileen Collins", "image": "photos/astronaut.jpg"})
        archive.writestr("posts.jsonl", "\n".join([*lines[:2], "{", *lines[2:], last]))
    tab.get_by_role("tab", name="Batch").click()
    tab.get_by_role("button", name="Start").click()
    assert "first" in tab.locator("#np-batch-status.bad").inner_text(), "nothing is chosen"
    tab.set_input_files("#np-posts", str(posts))
    assert tab.locator("#np-chosen li").inner_text() == "tour.zip"
    tab.get_by_role("button", name="Start").click()
    job = tab.locator('.np-job[data-state="done"]')
    job.wait_for()
    head = job.locator(".np-job-head").inner_text()
    assert "tour.zip" in head and "5 of 5 posts" in head and "1 line skipped" in head
    assert job.locator("progress").get_attribute("value") == "5"
    job.get_by_text("Skipped lines").click()
    assert "line 3" in job.locator("td").first.inner_text() and job.locator("td small").inner_text() == "(E103)"
    job.get_by_text("Table of results").click()
    rows = job.locator(".np-table-of tbody tr")
    rows.last.wait_for()
    assert rows.count() == 5 and rows.last.locator("td").first.inner_text() == "line 6"
    assert "In the picture" in rows.last.inner_text()
    assert job.locator("td img").count() == 1
    small = rows.last.locator("img").evaluate("one => one.decode().then(() => [one.naturalWidth, one.naturalHeight])")
    assert max(small) == 192
    kinds = {}
    for kind in ("JSONL", "CSV", "HTML"):
        with tab.expect_download() as waiting:
            job.get_by_role("link", name=kind, exact=True).click()
        waiting.value.save_as(tmp_path / kind)
        kinds[kind] = (tmp_path / kind).read_text("utf-8")
    assert len(kinds["JSONL"].splitlines()) == 5
    assert kinds["CSV"].startswith("post,line,text,status,name") and "p4,line 6" in kinds["CSV"]
    assert kinds["HTML"].count("<article") == 5 and kinds["HTML"].count("data:image/jpeg") == 1
    (tmp_path / "bad.csv").write_text("id,body\na,b\n")
    tab.set_input_files("#np-posts", str(tmp_path / "bad.csv"))
    tab.get_by_role("button", name="Start").click()
    tab.wait_for_selector("#np-batch-status.bad")
    assert (
        "Line 1: the table has the columns id, body; it needs text or tokens."
        in tab.locator("#np-batch-status").inner_text()
    )
    job.get_by_role("button", name="Remove").click()
    tab.get_by_text("No jobs yet.").wait_for()


def test_web_page_with_markup_payloads_runs_no_script(tab: Any) -> None:
    """Each text would call `pwn`; `visit` fails at a request to elsewhere."""
    tab.evaluate("() => { window.ran = 0; window.pwn = () => { window.ran += 1 } }")
    for turn, first in enumerate(range(0, len(PAYLOADS), 7), 1):
        told = send(tab, "Ada Lovelace " + " Ada ".join(PAYLOADS[first : first + 7]), turn).inner_text()
        assert told.count("pwn") >= 6, "shown as text"
    assert tab.evaluate("window.ran") == 0
    assert tab.locator("#np-past").locator("script, iframe, object, base, meta, link, form[action*=pwn]").count() == 0
