"""The page as a document: one file that loads nothing, with all content escaped."""

import base64
import hashlib
import io
import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from PIL import Image

from namepin.agent.render.html import About, page
from namepin.tools.types import Mask, Notice
from support.agent_samples import TEXT, ellipse, entity, full, placed, post_view

EVIL = '<script>alert(1)</script>"><img/src=x onerror=alert(2)>'
VOID = {"meta", "link", "img", "input", "rect", "path", "line", "circle", "br"}


class Document(HTMLParser):
    """A page's tags, attributes and texts; checks that tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [a for t, a in self.tags if t == tag and wanted.items() <= a.items()]

    def classed(self, tag: str, name: str) -> list[dict[str, str | None]]:
        return [a for a in self.all(tag) if name in (a.get("class") or "").split()]


def test_page_references_no_external_resource() -> None:
    html = page([full()], About("starter", 0.2))
    document = Document(html)
    sources = [a.get("src") or a.get("href") or "" for tag, a in document.tags if tag in ("img", "link", "script")]
    assert all(source == "" or source.startswith("data:") for source in sources)
    assert not re.search(r"url\(|@import|https?://", html)
    assert all((a["href"] or "").startswith("#") for a in document.all("a"))
    anchors = {a["id"] for _, a in document.tags if "id" in a}
    assert {(a["href"] or "")[1:] for a in document.all("a")} <= anchors


def test_page_policy_allows_only_hashes_of_its_style_and_script() -> None:
    html = page([full()], About("starter", 0.2))
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1])  # type: ignore[index]  # there, or this fails
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        assert len(bodies) == 1
        digest = base64.b64encode(hashlib.sha256(bodies[0].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert not re.search(r"<[^>]+\s(style|on\w+)=", html), "inline styles and handlers would be refused"


def test_page_with_markup_in_post_escapes_every_field() -> None:
    text = f"Ada {EVIL} Example"
    item = post_view(
        text,
        placed(text, "Ada", (10.0, 10.0, 90.0, 90.0), evidence=EVIL, expression=EVIL, scores={EVIL: 1.0}),
        id=EVIL,
        warnings=(Notice(code="W103", tool=EVIL, message=EVIL),),
        extra={EVIL: EVIL},
        timings_ms={EVIL: 1.0},
    )
    html = page([item, item], About(EVIL, 0.2))
    document = Document(html)
    assert len(document.all("script")) == 1
    assert len(document.all("img")) == 2
    assert "alert(1)" not in "".join(document.texts["script"])
    assert not any(key.startswith("on") for _, attributes in document.tags for key in attributes)


def test_page_text_with_mentions_keeps_all_words() -> None:
    document = Document(page([full()], About("starter", 0.2)))
    mentions = document.classed("a", "mention")
    assert [a["data-e"] for a in mentions] == ["0", "1", "2"]
    words = "".join(document.texts["p"] + document.texts["a"])
    for part in ("Ada Example", " met ", "Bo Other", " at the ", "Grand Place"):
        assert part in words


def test_page_overlays_use_pixel_coordinates_of_picture() -> None:
    item = full()
    html = page([item], About("starter", 0.2))
    document = Document(html)
    assert document.all("svg", viewbox="0 0 320 240")
    frames = [a for a in document.all("rect") if a.get("x") == "10.0"]
    assert frames and all((a["y"], a["width"], a["height"]) == ("20.0", "110.0", "210.0") for a in frames)
    outline = re.search(r'<path d="(M[0-9 L]+Z)"', html)
    assert outline is not None
    numbers = [int(n) for n in re.findall(r"\d+", outline[1])]
    assert 10 <= min(numbers[::2]) and max(numbers[::2]) <= 120
    assert 20 <= min(numbers[1::2]) and max(numbers[1::2]) <= 230
    assert "ambiguous" in (document.classed("g", "ambiguous")[0]["class"] or "")


@pytest.mark.parametrize("size", [(1, 1), (4000, 1000), (320, 240)])
def test_page_pictures_of_any_size_are_inlined_within_320_to_1280_pixels(size: tuple[int, int]) -> None:
    html = page([post_view(TEXT, size=size)], About("starter"))
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', html)
    assert data is not None
    inlined = Image.open(io.BytesIO(base64.b64decode(data[1])))
    assert 320 <= max(inlined.size) <= 1280


def test_page_shows_evidence_and_thresholds_of_decisions() -> None:
    html = page([full()], About("starter", 0.2, 0.5))
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
    for part in (
        "the larger of two faces",
        "In the picture, ambiguous",
        "Not in the picture",
        "match with the picture 0.10",
        "A match needs 0.50",
        "an entropy of 0.610 nats",
        "above 0.20: this profile has none, so the type stays",
        "The server is down. (W103, knowledge)",
        "degraded",
        "400.0 ms",
    ):
        assert part in text


def test_page_json_block_equals_extraction() -> None:
    item = full()
    html = page([item], About("starter", 0.2))
    shown_json = unescape(re.search(r"<pre[^>]*>(.*?)</pre>", html, re.S)[1])  # type: ignore[index]  # there, or this fails
    assert json.loads(shown_json)["entities"] == json.loads(item.extraction.to_json())["entities"]


def test_page_of_posts_without_picture_names_or_scores_renders() -> None:
    bare = post_view(TEXT, entity(TEXT, "Ada Example", scores={}, entropy=None), size=None, timings_ms={})
    document = Document(page([bare, post_view(TEXT, size=None)], About("starter")))
    assert not document.all("img")
    assert "No names found." in document.texts["p"]


def test_page_mask_with_hole_keeps_two_contours() -> None:
    ring = ellipse((20, 20, 220, 220)).to_array() & ~ellipse((80, 80, 160, 160)).to_array()
    item = post_view(TEXT, placed(TEXT, "Ada Example", (20.0, 20.0, 220.0, 220.0), mask=Mask.from_array(ring)))
    outline = re.search(r'<path d="(M[0-9 LMZ]+Z)"', page([item], About("starter")))
    assert outline is not None and outline[1].count("M") == 2


def test_page_long_post_text_is_focusable_for_scrolling() -> None:
    long = "word " * 400 + "end"
    assert Document(page([post_view(long)], About("starter"))).all("p", tabindex="0")


def test_page_says_cannot_tell_and_unsure() -> None:
    unsure = entity(TEXT, "Ada Example", groundable=False, type_uncertain=True)
    hidden = entity(TEXT, "Grand Place", label="LOC", fine_label="park", groundable=None, evidence="not recognised")
    document = Document(page([post_view(TEXT, unsure, hidden)], About("starter", 0.2)))
    assert "Cannot tell" in document.texts["b"] and "Not in the picture" in document.texts["b"]
    forms = [a["class"] for a in document.all("b") if a.get("class")]
    assert forms == ["no", "unknown"], "each has a form of its own"
    types = [text.strip() for text in document.texts["span"] if text in ("Person", "unsure") or " · " in text]
    assert types == ["Person", "unsure", "Place · park"]
