"""Matching and tracing with any model that reads features of the picture (GEM section 5.2, Table 3).

BLIP-2 and LLaVA have no cross-attention between words and patches, so they are traced by Grad-CAM on the output of
their vision encoder. A model defines how features become scores. Matcher and tracer are shared by all models.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.caching.lru import LruCache
from namepin.tools.images import heatmap as heat
from namepin.tools.interfaces import Match, Matches, MatchRequest, Query, Trace, TraceRequest, Traces
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.media import Media, picture
from namepin.tools.models.config import Target
from namepin.tools.models.gradcam import feature_map, score_to_trace
from namepin.tools.types import ImageRef, Notice


class FeatureModel(ABC):
    """A loaded model, safe for several threads."""

    prompt: ClassVar[str]
    """With `{entity}` and `{category}`; part of the fingerprint."""

    padded: ClassVar[bool]
    """Whether the picture is padded to a square (else squashed to one)."""

    identity: Mapping[str, Any]
    """Everything that determines its outputs; `checkpoint` covers weights, vocabulary, mean and std."""

    def __init__(self, net: Any, tokenizer: Any, identity: Mapping[str, Any], *, batch: int, cached: int) -> None:
        """Use a net that is loaded on its device.

        Args:
            net: a net of transformers.
            tokenizer: the net's tokenizer.
            identity: see `identity`.
            batch: number of mentions per batch.
            cached: number of pictures whose features are cached.
        """
        self.net, self.tokenizer = net.eval().requires_grad_(False), tokenizer
        self.identity, self.batch = identity, batch
        self._kept: LruCache[tuple[str, str], Tensor] = LruCache(cached)

    def features(self, image: ImageRef, media: Media) -> Tensor:
        """The output of the vision encoder, (1, tokens, channels), cached so that tracing does not repeat it.

        Raises:
            NamepinError: E120 when the picture is not in `media`.
        """
        key = image.sha256, str(self.identity["checkpoint"])
        found = self._kept.get(key)
        if found is None:
            # no_grad rather than inference_mode: the tracer differentiates through the later layers.
            with torch.inference_mode(False), torch.no_grad():
                found = self.encode(picture(image, media))
            self._kept.put(key, found)
        return found

    @abstractmethod
    def encode(self, image: Image.Image) -> Tensor:
        """The features of an upright picture."""

    @abstractmethod
    def patches(self, features: Tensor) -> Tensor:
        """The tokens of `features` that are patches, (rows, patches, channels), row by row of a square grid."""

    @abstractmethod
    def scores(self, features: Tensor, queries: Sequence[Query]) -> Tensor:
        """Logits (rows, 2): no match, match. `features` has one row for each query; gradients flow into it."""

    @abstractmethod
    def notices(self, queries: Sequence[Query], tool: str) -> tuple[Notice, ...]:
        """Warnings about texts that were cut."""


class FeatureMatcher:
    """Matches with one vision pass per picture, and its mentions in batches."""

    name: ClassVar[str]
    version: ClassVar[int] = 1

    def __init__(self, model: FeatureModel) -> None:
        self.model = model

    @property
    def fingerprint(self) -> str:
        """See `fingerprint_of`."""
        return fingerprint_of(self.name, self.version, self.model)

    def run(self, requests: Sequence[MatchRequest], media: Media) -> list[Matches]:
        """P_T for every query of every request.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small.
        """
        return [_matches(self.model, self.name, request, media) for request in requests]


def _matches(model: FeatureModel, tool: str, request: MatchRequest, media: Media) -> Matches:
    def score(part: slice) -> list[float]:
        queries = request.queries[part]
        features = model.features(request.image, media)
        with torch.inference_mode(False), torch.no_grad():
            logits = model.scores(features.expand(len(queries), -1, -1), queries)
        return [float(p) for p in logits.cpu().double().softmax(dim=-1)[:, 1]]

    parts, halved = in_batches(len(request.queries), model.batch, score, tool)
    matches = tuple(Match(score=score) for part in parts for score in part)
    return Matches(matches=matches, notices=model.notices(request.queries, tool) + halved)


class FeatureTracer:
    """Traces by Grad-CAM on the vision encoder's output, in batches."""

    name: ClassVar[str]
    version: ClassVar[int] = 2

    def __init__(self, model: FeatureModel, target: Target) -> None:
        self.model, self.target = model, target

    @property
    def fingerprint(self) -> str:
        """See `fingerprint_of`."""
        return fingerprint_of(self.name, self.version, self.model, target=self.target)

    def run(self, requests: Sequence[TraceRequest], media: Media) -> list[Traces]:
        """The peak of every query's map; the map itself goes to `media` as a blob (`namepin.tools.images.heatmap`).

        Raises:
            NamepinError: E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small.
        """
        return [_traces(self.model, self.name, request, media, self.target) for request in requests]


def _traces(model: FeatureModel, tool: str, request: TraceRequest, media: Media, target: Target) -> Traces:
    queries = [asked.query for asked in request.queries]
    width, height = request.image.width, request.image.height
    found_maps, halved = maps_of_features(model, request.image, queries, media, target, tool)
    traces, notices = [], [*model.notices(queries, tool), *halved]
    for query, found in zip(queries, found_maps, strict=True):
        peak = heat.peak(found, width, height)
        if peak is None:
            message = f"no part of the picture speaks for the match: {query.text!r}"
            notices.append(Notice(code="W142", tool=tool, message=message))
        traces.append(Trace(peak=peak, heat=media.put_blob(heat.to_blob(found))))
    return Traces(traces=tuple(traces), notices=tuple(notices))


def maps_of_features(
    model: FeatureModel, image: ImageRef, queries: Sequence[Query], media: Media, target: Target, tool: str
) -> tuple[list[heat.Heat], tuple[Notice, ...]]:
    """One map per query over the whole picture; a batch of queries is one forward and one backward pass.

    Only the layers after the vision encoder are differentiated. The result warns where the device's memory was full.
    """

    def trace(part: slice) -> Tensor:
        asked = queries[part]
        with torch.inference_mode(False), torch.enable_grad():
            # One row per query, so that each query has its own gradient.
            features = model.features(image, media).repeat(len(asked), 1, 1).requires_grad_()
            score = score_to_trace(model.scores(features, asked).float(), target)
            (gradient,) = torch.autograd.grad(score, features)
        return feature_map(model.patches(features.detach()).float(), model.patches(gradient).float()).cpu()

    parts, notices = in_batches(len(queries), model.batch, trace, tool)
    maps = []
    for row in (row for part in parts for row in part):
        side = round(len(row) ** 0.5)
        whole = np.asarray(row.reshape(side, side).numpy(), dtype=np.float32)
        maps.append(heat.crop_padding(whole, image.width, image.height) if model.padded else whole)
    return maps, notices


def fingerprint_of(name: str, version: int, model: FeatureModel, **settings: Any) -> str:
    """A tool's fingerprint: covers weights, settings and the prompt's text; not device and batch sizes."""
    identity = {**model.identity, **settings}
    return fingerprint(name, version, identity, weights=identity["checkpoint"], prompt=model.prompt)
