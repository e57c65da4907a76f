"""The tracer: a batch against one text at a time, readings of equation 11, peaks, golden maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.images import heatmap as heat
from namepin.tools.images.tensors import squash
from namepin.tools.interfaces import MatchRequest, Query, TraceQuery, TraceRequest
from namepin.tools.matcher.blip import BlipMatcher
from namepin.tools.matcher.config import BlipMatcherConfig
from namepin.tools.media import Media
from namepin.tools.models.blip import Blip
from namepin.tools.models.config import BlipConfig
from namepin.tools.tracer.blip import BlipTracer
from namepin.tools.tracer.config import BlipTracerConfig
from support import tiny_blip
from support.paths import GOLDEN
from support.tiny_blip import PICTURE, QUERIES, VOCABULARY, image_ref

GOLDEN_FILE = GOLDEN / "blip_tiny.npz"
REF = image_ref(PICTURE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip.save_folder(tiny_blip.tiny_net(), tmp_path_factory.mktemp("blip"))


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_tracer(folder: Path, *, block: int = 1, blip: dict[str, object] | None = None, **settings: object) -> BlipTracer:
    config = BlipConfig(weights=str(folder), **(blip or {}))  # type: ignore[arg-type]
    return BlipTracer(BlipTracerConfig(blip=config, block=block, **settings))  # type: ignore[arg-type]


def a_request(*queries: Query, image: Image.Image = PICTURE) -> TraceRequest:
    return TraceRequest(image=image_ref(image), queries=tuple(TraceQuery(query=query) for query in queries))


@pytest.mark.parametrize("block", [0, 1])
def test_blip_tracer_batch_equals_single_texts(folder: Path, media: Media, block: int) -> None:
    tracer = a_tracer(folder, block=block)
    embedding = tracer.blip.embeddings([REF], media)[REF.sha256]
    texts = tracer.blip.texts(QUERIES)
    attention, gradient, logits = tracer.blip.cross_attention(embedding, texts, block, "logit")
    maps, _ = tracer.maps(REF, QUERIES, media)
    net = tiny_blip.tiny_net()
    for row, query in enumerate(QUERIES):
        expected = tiny_blip.naive_trace(net, squash(PICTURE, 64), query, block, first=VOCABULARY - 1)
        length = expected[1].shape[1]
        parts = (logits[row], attention[row, :, :length], gradient[row, :, :length], torch.from_numpy(maps[row]))
        for part, right in zip(parts, (*expected[:3], expected[3].reshape(4, 4)), strict=True):
            assert float((part - right).abs().max() / right.abs().max()) < 1e-5


def test_blip_tracer_paper_settings_give_other_maps(folder: Path, media: Media) -> None:
    lavis, _ = a_tracer(folder).maps(REF, QUERIES, media)
    paper, _ = a_tracer(folder, target="probability", tokens="sum").maps(REF, QUERIES, media)
    assert not np.allclose(lavis[0] / lavis[0].max(), paper[0] / paper[0].max(), atol=1e-3)


def test_blip_tracer_grid_follows_checkpoint(media: Media, tmp_path: Path) -> None:
    wide = tiny_blip.save_folder(tiny_blip.tiny_net(image_size=96), tmp_path)
    maps, _ = a_tracer(wide).maps(REF, QUERIES, media)
    assert {found.shape for found in maps} == {(6, 6)}


def test_blip_tracer_reuses_picture_of_matcher(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = a_tracer(folder)
    BlipMatcher(BlipMatcherConfig(blip=tracer.config.blip)).run(
        [MatchRequest(image=REF, text="x", queries=QUERIES)], media
    )
    monkeypatch.setattr(Blip, "_encode", None)
    assert len(tracer.run([a_request(*QUERIES)], media)[0].traces) == 3


def test_blip_tracer_with_forty_queries_in_chunks_equals_single_queries(folder: Path, media: Media) -> None:
    queries = [Query(text=f"name {i}", label="PER", category="actor") for i in range(40)]
    chunked, _ = a_tracer(folder, blip={"text_batch": 7}).maps(REF, queries, media)
    alone, _ = a_tracer(folder).maps(REF, [queries[33]], media)
    assert len(chunked) == 40
    assert np.abs(chunked[33] - alone[0]).max() < 1e-5 * alone[0].max()


def test_blip_tracer_in_inference_mode_gives_equal_result_without_gradients(folder: Path, media: Media) -> None:
    tracer = a_tracer(folder)
    expected = tracer.run([a_request(*QUERIES)], media)
    with torch.inference_mode():
        assert a_tracer(folder, blip={"cached_pictures": 0}).run([a_request(*QUERIES)], media) == expected
    assert all(parameter.grad is None for parameter in tracer.blip._net.parameters())


def test_blip_tracer_peak_lies_in_hottest_cell(folder: Path, media: Media) -> None:
    found = a_tracer(folder).run([a_request(*QUERIES)], media)[0]
    for trace in found.traces:
        assert trace.heat is not None and trace.peak is not None
        values = heat.from_blob(media.blobs[trace.heat])
        row, column = np.unravel_index(values.argmax(), (4, 4))
        x, y = trace.peak
        assert (x * 4 // PICTURE.width, y * 4 // PICTURE.height) == (column, row)


@pytest.mark.parametrize(
    "image", [Image.new("RGB", (64, 64)), Image.new("RGB", (1600, 100), "white"), Image.new("RGB", (1, 1))]
)
def test_blip_tracer_with_picture_of_odd_size_has_peak_inside(folder: Path, image: Image.Image) -> None:
    media = Media(images={REF.sha256: image})
    found = a_tracer(folder, blip={"cached_pictures": 0}).run([a_request(*QUERIES, image=image)], media)[0]
    for trace in found.traces:
        assert trace.peak is not None
        assert 0 <= trace.peak[0] < image.width and 0 <= trace.peak[1] < image.height


def test_blip_tracer_without_heat_warns_w142(media: Media, tmp_path: Path) -> None:
    net = tiny_blip.tiny_net()
    with torch.no_grad():
        net.itm_head.weight.zero_()
    found = a_tracer(tiny_blip.save_folder(net, tmp_path)).run([a_request(QUERIES[0])], media)[0]
    assert found.traces[0].peak is None
    assert [notice.code for notice in found.notices] == ["W142"]


def test_blip_tracer_without_queries_returns_nothing(folder: Path) -> None:
    assert a_tracer(folder).run([a_request()], Media())[0].traces == ()


def test_blip_tracer_with_unusable_block_raises_e217(folder: Path, media: Media) -> None:
    with pytest.raises(NamepinError, match="E217.*use 0 to 2"):
        a_tracer(folder, block=3, tokens="sum")
    # The score comes from the first token, so the last layer gives the other tokens no gradient.
    with pytest.raises(NamepinError, match="E217.*use 0 to 1"):
        a_tracer(folder, block=2)
    maps, _ = a_tracer(folder, block=2, tokens="sum").maps(REF, QUERIES, media)
    assert all(found.max() > 0 for found in maps)


def test_blip_tracer_fingerprint_depends_on_settings(folder: Path) -> None:
    settings: list[dict[str, object]] = [{}, {"target": "probability"}, {"heads": "max"}, {"tokens": "sum"}]
    assert len({a_tracer(folder, **each).fingerprint for each in settings}) == 4  # type: ignore[arg-type]
    assert a_tracer(folder, block=0).fingerprint != a_tracer(folder).fingerprint


def test_blip_tracer_maps_equal_golden_arrays(folder: Path, media: Media) -> None:
    golden = np.load(GOLDEN_FILE)
    assert tiny_logits(folder, media) == pytest.approx(golden["logits"], rel=1e-4)
    maps, _ = a_tracer(folder).maps(REF, QUERIES, media)
    assert np.abs(np.stack(maps) - golden["maps"]).max() < 1e-4 * golden["maps"].max()


def tiny_logits(folder: Path, media: Media) -> np.ndarray:
    blip = a_tracer(folder).blip
    texts = blip.texts(QUERIES)
    return blip.logits(blip.embeddings([REF], media)[REF.sha256], texts).numpy()
