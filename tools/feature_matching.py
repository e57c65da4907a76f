"""Matching and tracing with a model that reads features of the picture, whichever it is (GEM section 5.2, Table 3).

BLIP-2 and LLaVA have no cross-attention between words and patches, so they are traced by Grad-CAM on the feature maps
that their visual encoder hands on. A model says how features become scores; matcher and tracer are the same for all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from tools import heat
from tools.base import fingerprint
from tools.gradcam import Target, feature_map, score_to_trace
from tools.interfaces import Match, Matches, MatchRequest, Query, Trace, TraceRequest, Traces
from tools.matching import picture
from tools.media import Media
from tools.recent import Recent
from tools.types import ImageRef, Notice


class FeatureModel(Protocol):
    """A loaded model; its methods may run in several threads at once."""

    prompt: ClassVar[str]
    """With `{entity}` and `{category}`; part of the fingerprint."""

    padded: ClassVar[bool]
    """Whether it sees the picture on a padded square (else squashed to one)."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides its numbers; `checkpoint` is the weights' sha256."""
        ...

    @property
    def batch(self) -> int:
        """How many mentions go through at once."""
        ...

    def features(self, image: ImageRef, media: Media) -> Tensor:
        """What the visual encoder hands on: (1, tokens, channels), made once a picture."""
        ...

    def patches(self, features: Tensor) -> Tensor:
        """The tokens of `features` that are patches, (rows, patches, channels), row by row of a square grid."""
        ...

    def scores(self, features: Tensor, queries: Sequence[Query]) -> Tensor:
        """Logits (rows, 2): no match, match. `features` has one row for each query; gradients flow into it."""
        ...

    def notices(self, queries: Sequence[Query], tool: str) -> tuple[Notice, ...]:
        """What the texts lost, in warnings."""
        ...


class FeatureCache:
    """Features by picture and model, so that tracing does not repeat the matcher's work."""

    def __init__(self, capacity: int, checkpoint: str) -> None:
        self._kept: Recent[tuple[str, str], Tensor] = Recent(capacity)
        self._checkpoint = checkpoint

    def get(self, image: ImageRef, media: Media, encode: Callable[[Any], Tensor]) -> Tensor:
        """The features of `image`; `encode` makes them of its pixels.

        Raises:
            NamepinError: E120 when the picture is not in `media`.
        """
        key = image.sha256, self._checkpoint
        found = self._kept.get(key)
        if found is None:
            # no_grad rather than inference_mode: the tracer differentiates through what follows.
            with torch.inference_mode(False), torch.no_grad():
                found = encode(picture(image, media))
            self._kept.put(key, found)
        return found


def match_features(model: FeatureModel, tool: str, requests: Sequence[MatchRequest], media: Media) -> list[Matches]:
    """P_T for every query of every request."""
    results = []
    for request in requests:
        scores: list[float] = []
        for part in _chunks(request.queries, model.batch):
            features = model.features(request.image, media)
            with torch.inference_mode(False), torch.no_grad():
                logits = model.scores(features.expand(len(part), -1, -1), part)
            scores += logits.double().softmax(dim=-1)[:, 1].tolist()
        matches = tuple(Match(score=score) for score in scores)
        results.append(Matches(matches=matches, notices=model.notices(request.queries, tool)))
    return results


def trace_features(
    model: FeatureModel, tool: str, requests: Sequence[TraceRequest], media: Media, target: Target
) -> list[Traces]:
    """The peak of every query's map; the map itself goes to `media` as a blob (`tools.heat`)."""
    return [_traces(model, tool, request, media, target) for request in requests]


def _traces(model: FeatureModel, tool: str, request: TraceRequest, media: Media, target: Target) -> Traces:
    queries = [asked.query for asked in request.queries]
    width, height = request.image.width, request.image.height
    traces, notices = [], list(model.notices(queries, tool))
    for query, found in zip(queries, maps_of_features(model, request.image, queries, media, target), strict=True):
        peak = heat.peak(found, width, height)
        if peak is None:
            message = f"no part of the picture speaks for the match: {query.text!r}"
            notices.append(Notice(code="W142", tool=tool, message=message))
        traces.append(Trace(peak=peak, heat=media.put_blob(heat.to_blob(found))))
    return Traces(traces=tuple(traces), notices=tuple(notices))


def maps_of_features(
    model: FeatureModel, image: ImageRef, queries: Sequence[Query], media: Media, target: Target
) -> list[heat.Heat]:
    """One map a query over the whole picture; a batch of queries is one forward and one backward pass.

    Only what follows the visual encoder is differentiated.
    """
    maps: list[heat.Heat] = []
    for part in _chunks(queries, model.batch):
        with torch.inference_mode(False), torch.enable_grad():
            # A row for each query, so that each has a gradient of its own.
            features = model.features(image, media).repeat(len(part), 1, 1).requires_grad_()
            score = score_to_trace(model.scores(features, part).float(), target)
            (gradient,) = torch.autograd.grad(score, features)
        found = feature_map(model.patches(features.detach()).float(), model.patches(gradient).float())
        side = round(found.shape[1] ** 0.5)
        for grid in found.reshape(-1, side, side).cpu().numpy():
            whole = np.asarray(grid, dtype=np.float32)
            maps.append(heat.crop_padding(whole, image.width, image.height) if model.padded else whole)
    return maps


def _chunks(queries: Sequence[Query], size: int) -> list[Sequence[Query]]:
    return [queries[start : start + size] for start in range(0, len(queries), size)]


def fingerprint_of(name: str, version: int, model: FeatureModel, **settings: Any) -> str:
    """A tool's fingerprint: over weights, settings and the prompt's text; not over device and batch sizes."""
    identity = {**model.identity, **settings}
    return fingerprint(name, version, identity, weights=identity["checkpoint"], prompt=model.prompt)
