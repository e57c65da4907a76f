"""Heat maps: returned beside the `Extraction`, stored under everything that determines them, one toggle per name."""

import base64
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.checkpointer import open_saver
from namepin.agent.config.settings import Settings
from namepin.agent.render.html import About, heat_layer, page
from namepin.agent.render.view import PostView
from namepin.agent.stores.heat_maps import HeatMaps
from namepin.graphs.calls import LiveCalls
from namepin.graphs.policy import ReviewPolicy
from namepin.tools.images import heatmap as heat
from namepin.tools.interfaces import Trace, TraceRequest, Traces
from namepin.tools.media import Media
from namepin.tools.types import Extraction, ImageRef
from support.agent_samples import TEXT, entity, placed, post_view
from support.scripted_tools import RegionMatcher, ScriptedTracer, make_tools

POST = {"id": "p", "text": "Anna met Sam and Bob"}


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def make_pin(**tools: Any) -> Namepin:
    return Namepin(Settings(profile="test"), LiveCalls(make_tools(**tools)))


def blob(row: int, column: int) -> bytes:
    values = np.zeros((6, 8), dtype=np.float32)
    values[row, column] = 1
    return heat.to_blob(values)


class Pointless(ScriptedTracer):
    """Makes a map, but finds no peak in it."""

    def answer(self, request: TraceRequest, media: Media) -> Traces:
        return Traces(traces=tuple(Trace(peak=None, heat=media.put_blob(blob(0, 0))) for _ in request.queries))


def test_stream_fills_heat_maps_of_groundable_entities() -> None:
    maps: dict[int, bytes] = {}
    found = make_pin().extract(POST, picture())
    filled = [e for e in make_pin().stream(POST, picture(), heat=maps) if isinstance(e, Extraction)][-1]
    assert [e.groundable for e in found.entities] == [True, False, True]
    assert maps == {0: b"Anna", 2: b"Bob"}, "by their place in the result"
    rows = [one.model_copy(update={"timings_ms": {}}).to_json() for one in (filled, found)]
    assert rows[0] == rows[1], "an Extraction holds none of it"


def test_stream_with_pointless_trace_fills_no_heat_map() -> None:
    maps: dict[int, bytes] = {}
    list(make_pin(tracer=Pointless()).stream(POST, picture(), heat=maps))
    assert maps == {}


def test_heat_maps_of_result_are_found_again_for_equal_result_only(tmp_path: Path) -> None:
    maps: dict[int, bytes] = {}
    [found] = [e for e in make_pin().stream(POST, picture(), heat=maps) if isinstance(e, Extraction)]
    HeatMaps(tmp_path / "heat").keep(found, maps)
    again = HeatMaps(tmp_path / "heat")
    assert again.of(Extraction.model_validate_json(found.to_json())) == maps
    anna = found.entities[0].model_copy(update={"label": "ORG", "fine_label": None})
    for changed in (
        {"fingerprint": "0" * 64},
        {"text": "Anna met Sam and Bob!"},
        {"image": ImageRef(sha256="0" * 64, width=64, height=48)},
        {"image": None},
    ):
        assert again.of(found.model_copy(update=changed)) == {}, changed
    assert set(again.of(found.model_copy(update={"entities": (anna, *found.entities[1:])}))) == {2}
    assert HeatMaps(tmp_path / "elsewhere").of(found) == {}


def test_heat_maps_beyond_capacity_evict_least_recently_used(tmp_path: Path) -> None:
    maps: dict[int, bytes] = {}
    [found] = [e for e in make_pin().stream(POST, picture(), heat=maps) if isinstance(e, Extraction)]
    small = HeatMaps(tmp_path, max_bytes=5)
    small.keep(found, maps)
    assert small.of(found) == {2: b"Bob"}


def test_review_after_answers_holds_heat_maps_of_result(tmp_path: Path) -> None:
    settings = Settings(profile="test", review=ReviewPolicy(match_margin=0.1))
    pin = Namepin(settings, LiveCalls(make_tools(matcher=RegionMatcher())))
    review = pin.review({"id": "p", "text": "Anna met Bob"}, picture(), open_saver=partial(open_saver, tmp_path))
    assert review.questions and review.heat == {}
    review.answer({"place:0": "no", "place:1": "yes"})
    assert review.heat == {1: b"Bob"}


def sample(maps: dict[int, bytes]) -> PostView:
    names = placed(TEXT, "Ada Example", (10.0, 20.0, 120.0, 230.0), peak=(60, 60)), entity(TEXT, "Grand Place")
    plain = post_view(TEXT, *names)
    return PostView(plain.extraction, plain.picture, maps)


def test_page_with_heat_maps_has_toggle_per_name() -> None:
    html = page([sample({0: blob(2, 3)}), sample({})], About("gem", 0.2))
    first, second = html.split('<article id="post-2"')
    assert first.count('<img class="heat"') == 1 and first.count('type="radio"') == 2
    assert 'alt="Heat map of the match of Ada Example"' in first and "scale of its own" in first
    assert "Heat map" not in second and 'type="radio"' not in second


def test_heat_layer_is_opaque_where_map_is_high() -> None:
    png = heat_layer(blob(5, 0), ImageRef(sha256="a" * 64, width=640, height=480))
    assert len(png) < 20_000
    layer = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)
    hot, cold = layer[176, 16], layer[16, 240]
    assert layer.shape == (192, 256, 4) and hot[3] > 120 and cold[3] == 0
    html = page([sample({0: blob(5, 0)})], About("gem", 0.2))
    assert "data:image/png;base64," in html and "transparent" in html
    with pytest.raises(ValueError, match=r"heat map|magic|pickle"):
        heat_layer(base64.b64decode("AAAA"), ImageRef(sha256="a" * 64, width=64, height=48))
