"""BLIP-2 and LLaVA as matchers and tracers, against transformers one mention at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.images import heatmap as heat
from namepin.tools.images.tensors import pad_to_square, squash
from namepin.tools.interfaces import MatchRequest, Query, TraceQuery, TraceRequest
from namepin.tools.matcher.blip2 import Blip2Matcher, Blip2Tracer
from namepin.tools.matcher.config import (
    Blip2Config,
    Blip2MatcherConfig,
    Blip2TracerConfig,
    LlavaConfig,
    LlavaMatcherConfig,
    LlavaTracerConfig,
)
from namepin.tools.matcher.feature_model import maps_of_features
from namepin.tools.matcher.llava import LlavaMatcher, LlavaTracer
from namepin.tools.media import Media
from support import tiny_features
from support.tiny_blip import PICTURE, QUERIES, image_ref

REF = image_ref(PICTURE)


@dataclass(frozen=True)
class Kind:
    """One of the models: how it is made, and how transformers computes the same."""

    save: Callable[[Path], Path]
    naive: Callable[..., Any]
    square: Callable[[Image.Image], Image.Image]
    tools: Callable[..., tuple[Any, Any]]


def blip2_tools(folder: Path, **settings: Any) -> tuple[Blip2Matcher, Blip2Tracer]:
    config = Blip2Config(weights=str(folder), **settings)
    return Blip2Matcher(Blip2MatcherConfig(blip2=config)), Blip2Tracer(Blip2TracerConfig(blip2=config))


def llava_tools(folder: Path, **settings: Any) -> tuple[LlavaMatcher, LlavaTracer]:
    config = LlavaConfig(weights=str(folder), **({"dtype": "float32"} | settings))
    return LlavaMatcher(LlavaMatcherConfig(llava=config)), LlavaTracer(LlavaTracerConfig(llava=config))


KINDS = {
    "blip2": Kind(tiny_features.save_blip2, tiny_features.naive_blip2, lambda image: image, blip2_tools),
    "llava": Kind(tiny_features.save_llava, tiny_features.naive_llava, pad_to_square, llava_tools),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kind.save(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def match_request(*queries: Query) -> MatchRequest:
    return MatchRequest(image=REF, text="a post", queries=queries)


def trace_request(*queries: Query) -> TraceRequest:
    return TraceRequest(image=REF, queries=tuple(TraceQuery(query=query) for query in queries))


def test_feature_models_scores_and_maps_equal_single_mentions(kind: Kind, folder: Path, media: Media) -> None:
    matcher, tracer = kind.tools(folder, text_batch=2)
    assert matcher.model is tracer.model
    scores = [match.score for match in matcher.run([match_request(*QUERIES)], media)[0].matches]
    maps, _ = maps_of_features(tracer.model, REF, QUERIES, media, "probability", "t")
    pixels = squash(kind.square(PICTURE), tiny_features.SIDE)
    for query, score, found in zip(QUERIES, scores, maps, strict=True):
        logits, features, gradient = kind.naive(pixels, query)
        assert score == pytest.approx(float(logits.softmax(-1)[1]), rel=1e-4)
        weights = gradient.mean(dim=0)
        expected = torch.stack([(patch * weights).sum().clamp(min=0) for patch in features]).reshape(4, 4).numpy()
        if kind.square is pad_to_square:
            expected = heat.crop_padding(expected, PICTURE.width, PICTURE.height)
        assert expected.max() > 0
        assert np.abs(found - expected).max() < 1e-4 * expected.max()


def test_feature_models_matcher_and_tracer_share_encoded_picture(
    kind: Kind, folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher, tracer = kind.tools(folder)
    matcher.run([match_request(*QUERIES)], media)
    monkeypatch.setattr(type(matcher.model), "encode", None)
    found = tracer.run([trace_request(*QUERIES)], media)[0]
    assert len(found.traces) == 3
    for trace in found.traces:
        assert trace.heat in media.blobs
        if trace.peak is not None:
            assert 0 <= trace.peak[0] < PICTURE.width and 0 <= trace.peak[1] < PICTURE.height


def test_feature_models_read_special_tokens_in_mention_as_letters(kind: Kind, folder: Path, media: Media) -> None:
    odd, plain = Query(text="<image>[SEP]</s> NASA", label="ORG", category="ORG"), QUERIES[1]
    matcher, _ = kind.tools(folder)
    scores = [match.score for match in matcher.run([match_request(odd, plain)], media)[0].matches]
    assert all(0 < score < 1 for score in scores)


def test_feature_models_with_long_mention_warn_w140(kind: Kind, folder: Path, media: Media) -> None:
    matcher, tracer = kind.tools(folder)
    long = Query(text="NASA " * 100, label="ORG", category="ORG")
    assert [notice.code for notice in matcher.run([match_request(long)], media)[0].notices] == ["W140"]
    assert tracer.run([trace_request(long)], media)[0].notices[0].code == "W140"


@pytest.mark.parametrize("image", [Image.new("RGB", (64, 64)), Image.new("RGB", (1600, 100)), Image.new("RGB", (1, 1))])
def test_feature_models_with_odd_picture_return_sound_result(kind: Kind, folder: Path, image: Image.Image) -> None:
    matcher, tracer = kind.tools(folder, cached_pictures=0)
    ref, media = image_ref(image), Media(images={REF.sha256: image})
    request = MatchRequest(image=ref, text="x", queries=QUERIES)
    assert all(0 < match.score < 1 for match in matcher.run([request], media)[0].matches)
    for found in maps_of_features(tracer.model, ref, QUERIES, media, "probability", "t")[0]:
        peak = heat.peak(found, image.width, image.height)
        assert peak is None or (0 <= peak[0] < image.width and 0 <= peak[1] < image.height)


def test_feature_models_fingerprint_depends_on_relevant_settings(kind: Kind, folder: Path) -> None:
    matcher, tracer = kind.tools(folder)
    again, _ = kind.tools(folder, text_batch=1, cached_pictures=0)
    assert again.fingerprint == matcher.fingerprint != tracer.fingerprint
    assert kind.tools(folder, dtype="bfloat16")[0].fingerprint != matcher.fingerprint


def test_feature_models_in_half_precision_stay_close(kind: Kind, folder: Path, media: Media) -> None:
    whole, half = (kind.tools(folder, dtype=dtype)[0].run([match_request(*QUERIES)], media)[0] for dtype in
                   ("float32", "bfloat16"))  # fmt: skip
    for one, other in zip(whole.matches, half.matches, strict=True):
        assert other.score == pytest.approx(one.score, abs=0.1)


def test_feature_models_with_weights_of_other_model_raise_e212(kind: Kind, folder: Path) -> None:
    wrong = llava_tools if kind is KINDS["blip2"] else blip2_tools
    with pytest.raises(NamepinError, match="E212"):
        wrong(folder)


def test_pad_to_square_centres_picture() -> None:
    square = pad_to_square(Image.new("RGB", (10, 4), "red"))
    assert square.size == (10, 10)
    assert square.getpixel((5, 5)) == (255, 0, 0)
    assert square.getpixel((5, 2)) == square.getpixel((5, 7)) == (122, 116, 104)
