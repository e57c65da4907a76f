"""The Python API on the starter profile."""

import asyncio
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from PIL import Image

import namepin
from namepin import Extraction, Namepin, NamepinError, Post, StepEvent
from namepin.agent.config.settings import Settings
from namepin.graphs.calls import LiveCalls
from namepin.tools.interfaces import TagRequest, Tags
from namepin.tools.llm.usage import count_usage, record_usage
from namepin.tools.media import Media
from support.capital_tagger import CapitalTagger
from support.paths import ROOT

POST = "Eileen Collins commanded the Space Shuttle for NASA"
PHOTO = ROOT / "examples" / "astronaut.jpg"


@pytest.fixture
def pin() -> Namepin:
    return Namepin.from_profile("starter")


def without_times(extraction: Extraction) -> Extraction:
    return extraction.model_copy(update={"timings_ms": {}})


def test_namepin_package_exports_public_names_only() -> None:
    for name in namepin.__all__:
        assert getattr(namepin, name).__name__ == name
    assert dir(namepin) == namepin.__all__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = namepin.nonsense


def test_namepin_repr_names_profile_graph_and_tools(pin: Namepin) -> None:
    assert repr(pin) == "<Namepin 'starter', graph gem: tagger, matcher, tracer, segmenter>"


def test_extract_with_picture_in_any_form_gives_equal_entities(pin: Namepin) -> None:
    by_path = pin.extract(POST, image=PHOTO)
    assert by_path.image is not None and by_path.image.width == 512
    for form in (str(PHOTO), PHOTO.read_bytes()):
        assert without_times(pin.extract(POST, image=form)) == without_times(by_path)
    with Image.open(PHOTO) as picture:
        opened = pin.extract(POST, image=picture)
    assert opened.image is not None and opened.image.sha256 != by_path.image.sha256, "an opened picture has no file"
    assert [e.text for e in opened.entities] == [e.text for e in by_path.entities]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "F", "I;16"])
def test_ready_with_picture_of_any_mode_converts_to_rgb(pin: Namepin, mode: str) -> None:
    prepared = pin.ready("Ada", Image.new(mode, (8, 6)))
    assert prepared.picture is not None
    assert (prepared.picture.image.mode, prepared.picture.image.size) == ("RGB", (8, 6))


def test_extract_aextract_batch_and_stream_agree(pin: Namepin) -> None:
    post = Post(id="one", text=POST)
    expected = without_times(pin.extract(post))
    assert without_times(asyncio.run(pin.aextract(post))) == expected
    assert without_times(next(iter(pin.batch([post])))) == expected
    *steps, last = pin.stream(post)
    assert isinstance(last, Extraction) and without_times(last) == expected
    assert [s.step for s in steps if isinstance(s, StepEvent) and s.phase == "finished"][0] == "tag"
    assert all(isinstance(step, StepEvent) for step in steps)


def test_extract_inside_running_loop_returns_extraction(pin: Namepin) -> None:
    async def notebook_cell() -> Extraction:
        return pin.extract(POST)

    assert asyncio.run(notebook_cell()).text == POST


def test_batch_with_bad_post_keeps_order_and_fails_that_post(pin: Namepin, tmp_path: Path) -> None:
    posts = [Post(id="a", text="Ada in Oslo"), Post(id="b", text="\u200b"), {"id": "c", "tokens": ["Bo"]}, "Cy"]
    results = pin.batch(posts)
    assert inspect.isgenerator(results), "nothing runs before it is asked for"
    found = list(results)
    assert [e.id for e in found] == ["a", "b", "c", "post"]
    assert [e.status for e in found] == ["ok", "failed", "ok", "ok"]
    assert "E101" in found[1].warnings[0].message


def test_extract_with_missing_picture_degrades_or_raises_e120(pin: Namepin) -> None:
    found = pin.extract(Post(id="a", text=POST, image="nowhere.jpg"))
    assert found.status == "degraded"
    assert [notice.code for notice in found.warnings] == ["W101"]
    with pytest.raises(NamepinError, match="E120"):
        pin.extract(POST, image="nowhere.jpg")


def test_extract_of_tokens_with_control_characters_cleans_them_with_w104(pin: Namepin) -> None:
    found = pin.extract({"id": "a", "tokens": ["Ada\0x", "in", "\ud800slo"]})
    assert found.tokens == ("Ada x", "in", "\ufffdslo")
    assert found.text == "Ada x in \ufffdslo"
    assert [notice.code for notice in found.warnings] == ["W104"]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"id": "a", "text": ""}, "E101"),
        ({"id": "a"}, "E103"),
        ({"text": "x"}, "E103"),
        ({"id": "a", "text": "x y", "tokens": ["x"]}, "E103"),
        ({"id": "a", "text": "x", "lable": 1}, "E103"),
        ({"id": "a", "text": None}, "E103"),
    ],
)
def test_extract_of_invalid_row_raises_coded_error(pin: Namepin, row: dict[str, object], code: str) -> None:
    with pytest.raises(NamepinError) as caught:
        pin.extract(row)
    assert caught.value.code == code


def test_extraction_fingerprint_depends_on_settings_only(pin: Namepin) -> None:
    other = Namepin.from_profile("starter", gate={"gamma": 0.7}, segmenter__backend="off")
    assert other.settings.gate.gamma == 0.7
    assert pin.extract("Ada").fingerprint == pin.extract("Bo").fingerprint != other.extract("Ada").fingerprint


def test_extract_with_tools_of_other_graph_warns_w102() -> None:
    found = Namepin.from_profile("starter", graph="riveg").extract(POST, image=PHOTO)
    assert found.entities and all(entity.groundable is None for entity in found.entities)
    (notice,) = found.warnings
    assert notice.code == "W102" and "matcher and tracer of profile starter" in notice.message
    assert "entailment or grounder" in notice.message and "--profile riveg" in notice.message


@pytest.mark.parametrize("graph", ["gem", "riveg"])
def test_sandbox_profile_on_either_graph_has_no_unused_tools(graph: str) -> None:
    assert Namepin.from_profile("sandbox", graph=graph).unused == ()


class WarningTagger(CapitalTagger):
    """Warns as a deprecated argument of another package does."""

    def run(self, requests: Sequence[TagRequest], media: Media) -> list[Tags]:
        warnings.warn_explicit("an argument has a new name", FutureWarning, "other/package.py", 1)
        return super().run(requests, media)


@pytest.mark.parametrize(("action", "status"), [("ignore", "ok"), ("always", "ok"), ("error", "failed")])
def test_python_warning_inside_tool_never_degrades_post(action: Any, status: str) -> None:
    """A filter that turns warnings into errors fails the post with the warning's text, as any exception does."""
    pin = Namepin(Settings(profile="test"), LiveCalls({"tagger": WarningTagger()}))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter(action)
        (found,) = pin.batch([Post(id="one", text="Ada met Bob")])
    assert found.status == status and len(found.entities) == (2 if status == "ok" else 0)
    assert [notice.message for notice in found.warnings] == (
        [] if status == "ok" else ["FutureWarning: an argument has a new name"]
    )


class MeteredTagger(CapitalTagger):
    """Counts a model's answer for each post, as a tool that asks a server does."""

    def run(self, requests: Sequence[TagRequest], media: Media) -> list[Tags]:
        record_usage(7, 2)
        return super().run(requests, media)


class ParentOfGraph(BaseCallbackHandler):
    """Keeps the parent of every run by the run's name."""

    def __init__(self) -> None:
        self.parents: dict[str, UUID | None] = {}

    def on_chain_start(self, serialized: Any, inputs: Any, **run: Any) -> None:
        self.parents.setdefault(str(run["name"]), run["parent_run_id"])


def test_extract_inside_running_loop_keeps_parent_trace_and_usage() -> None:
    pin = Namepin(Settings(profile="none"), LiveCalls({"tagger": MeteredTagger()}))
    handler, run_id = ParentOfGraph(), uuid4()

    async def notebook_cell(text: str) -> Extraction:
        return pin.extract(text)  # a running loop: the graph runs in another thread

    with count_usage() as usage:
        cell = RunnableLambda(notebook_cell).with_config(run_name="cell")
        found = asyncio.run(cell.ainvoke(POST, {"callbacks": [handler], "run_id": run_id}))
    assert found.status == "ok" and (usage.answers, usage.prompt_tokens, usage.completion_tokens) == (1, 7, 2)
    assert handler.parents.pop("cell") is None
    assert handler.parents[pin.graph.name] == run_id


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_ready_with_array_reads_its_pixels(pin: Namepin, channels: tuple[int, ...]) -> None:
    pixels = np.full((6, 8, *channels), 200, np.uint8)
    if channels == (4,):
        pixels[..., 3] = 255
    prepared = pin.ready("Ada", pixels)
    assert prepared.picture is not None
    assert (prepared.picture.image.mode, prepared.picture.image.size) == ("RGB", (8, 6))
    assert prepared.picture.image.getpixel((0, 0)) == (200, 200, 200)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((6, 8, 3)), np.zeros((6, 8, 2), np.uint8), np.zeros((0, 8, 3), np.uint8), 7, ["photo.jpg"], {"a": 1}],
)
def test_extract_of_invalid_picture_raises_e123(pin: Namepin, picture: Any) -> None:
    with pytest.raises(NamepinError) as caught:
        pin.extract("Ada", image=picture)
    assert caught.value.code == "E123"


@pytest.mark.parametrize(("urls", "code"), [(False, "E120"), (True, "E126")])
def test_extract_of_loopback_address_raises_e120_or_e126(urls: bool, code: str) -> None:
    pin = Namepin.from_profile("starter", images={"urls": urls})
    with pytest.raises(NamepinError) as caught:
        pin.extract("Ada", image="https://127.0.0.1/photo.jpg")
    assert caught.value.code == code


def test_batch_of_dataset_rows_reads_embedded_pictures(pin: Namepin) -> None:
    data = PHOTO.read_bytes()
    rows = [
        {"id": 1, "text": "Ada", "image": {"bytes": data, "path": None}},
        {"id": 2, "text": "Bo", "image": {"bytes": None, "path": str(PHOTO)}},
        {"id": 3, "text": "Cy", "image": Image.new("RGB", (9, 9))},
        {"id": 4, "text": "Di", "image": None},
        {"id": 5, "text": "Ed", "image": {"bytes": b"no picture", "path": None}},
    ]
    found = list(pin.batch(rows))
    assert [result.image.width if result.image else None for result in found] == [512, 512, 9, None, None]
    assert [result.status for result in found] == ["ok"] * 4 + ["failed"]


def test_load_builds_tools_before_first_post() -> None:
    pin = Namepin.from_profile("starter")
    assert pin._calls is None
    assert pin.load() is pin and pin._calls is not None


def test_min_score_above_every_probability_leaves_no_entity(pin: Namepin) -> None:
    assert pin.extract(POST).entities and not pin.extract(POST, min_score=1.1).entities
    (found,) = pin.batch([POST], min_score=1.1)
    assert not found.entities


def test_extract_docstring_describes_arguments_result_errors_and_example() -> None:
    text = inspect.getdoc(Namepin.extract) or ""
    assert all(part in text for part in ("Args:", "Returns:", "Raises:", "min_score", "pin.extract("))
