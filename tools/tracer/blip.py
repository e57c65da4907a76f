"""The place of BLIP's match: equation 11 on a text layer's cross-attention (GEM section 3.4.2).

The paper writes the gradient of P_T and a sum over tokens. The code it builds on (LAVIS, PNP-VQA) uses the raw match
logit, and the mean over the tokens between the first one and [SEP]. Both are supported; the default is LAVIS's.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.errors import NamepinError
from namepin.tools.images import heatmap as heat
from namepin.tools.interfaces import Query, Trace, TraceRequest, Traces
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.media import Media
from namepin.tools.models.blip import Blip, shared_blip
from namepin.tools.models.gradcam import attention_map
from namepin.tools.models.match_texts import MATCH_PROMPT
from namepin.tools.tracer.config import BlipTracerConfig
from namepin.tools.types import ImageRef, Notice


class BlipTracer:
    """Traces all mentions of a picture in one forward and one backward pass, on the matcher's cached embedding."""

    name: ClassVar[str] = "tracer_blip"
    version: ClassVar[int] = 2

    def __init__(self, config: BlipTracerConfig, blip: Blip | None = None) -> None:
        """Use `blip` if given, else load or share the model of `config.blip`.

        Raises:
            NamepinError: E217 when the text encoder has no layer `block`, or the score does not depend on that layer's
                inner tokens: above the last layer, only the first token is read. Else as `shared_blip`.
        """
        self.config = config
        self.blip = blip or shared_blip(config.blip)
        last = self.blip.blocks - 1 - (config.tokens == "inner_mean")
        if config.block > last:
            raise NamepinError(
                "E217",
                f"block {config.block} of {self.blip.blocks} cannot be traced with tokens = {config.tokens!r}",
                where="tracer.block",
                mend=f"use 0 to {last}",
            )

    @property
    def fingerprint(self) -> str:
        """Covers weights, settings and the prompt's text; not device and batch sizes."""
        identity = self.blip.identity
        settings = self.config.model_dump(mode="json", exclude={"blip"})
        return fingerprint(
            self.name, self.version, {**identity, **settings}, weights=identity["checkpoint"], prompt=MATCH_PROMPT
        )

    def run(self, requests: Sequence[TraceRequest], media: Media) -> list[Traces]:
        """The peak of every query's map; the map itself goes to `media` as a blob (`namepin.tools.images.heatmap`).

        Raises:
            NamepinError: E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small.
        """
        return [self._traces(request, media) for request in requests]

    def _traces(self, request: TraceRequest, media: Media) -> Traces:
        queries = [asked.query for asked in request.queries]
        maps, halved = self.maps(request.image, queries, media)
        traces, notices = [], [*self.blip.texts.notices(queries, self.name), *halved]
        for query, found in zip(queries, maps, strict=True):
            peak = heat.peak(found, request.image.width, request.image.height)
            if peak is None:
                message = f"no part of the picture speaks for the match: {query.text!r}"
                notices.append(Notice(code="W142", tool=self.name, message=message))
            traces.append(Trace(peak=peak, heat=media.put_blob(heat.to_blob(found))))
        return Traces(traces=tuple(traces), notices=tuple(notices))

    def maps(
        self, image: ImageRef, queries: Sequence[Query], media: Media
    ) -> tuple[list[heat.Heat], tuple[Notice, ...]]:
        """One map per query, (rows, columns) of patches over the whole picture; a warning where memory was full."""
        if not queries:
            return [], ()
        embedding = self.blip.embeddings([image], media)[image.sha256]
        texts = self.blip.texts(queries)

        def trace(part: slice) -> Tensor:
            asked = texts.rows(part)
            attention, gradient, _ = self.blip.cross_attention(embedding, asked, self.config.block, self.config.target)
            return attention_map(attention, gradient, asked.mask, heads=self.config.heads, tokens=self.config.tokens)

        parts, notices = in_batches(len(queries), self.config.blip.text_batch, trace, self.name)
        grids = torch.cat(parts).reshape(-1, *self.blip.grid).cpu().numpy()
        return [np.asarray(grid, dtype=np.float32) for grid in grids], notices
