"""Annotated samples similar to a post: multimodal similar example awareness, MSEA (RiVEG section IV-B1b).

Fusion features of the annotated samples are computed once and stored in a folder. A post gets the N samples with the
highest cosine. The paper's ablation uses N random samples instead, the same for all posts.
"""

import logging
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from namepin.tools.base import digest, file_sha256, fingerprint
from namepin.tools.caching.disk import default_cache_dir
from namepin.tools.errors import NamepinError
from namepin.tools.examples.config import ExamplesConfig
from namepin.tools.examples.features import FusionEncoder, load_encoder_of
from namepin.tools.examples.samples import Sample, SampleSources, read_samples
from namepin.tools.files import atomic_path, atomic_write
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import Example, Examples, ExamplesRequest
from namepin.tools.jsonl import dump_json, parse_json
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.loading.pretrained import device_named
from namepin.tools.media import Media
from namepin.tools.types import Notice

log = logging.getLogger(__name__)

FEATURES_FILE, INDEX_FILE = "features.safetensors", "index.json"
DIGITS = 4
"""Decimals of a similarity. Differences beyond them are rounding, and must not decide the order."""


class AnnotatedExamples:
    """Chooses annotated samples for a post (`ExamplesTool`), the most similar one last, next to the post in a prompt.

    The order is ours; the paper gives a set. A post never gets itself, by id or by text.

    Attributes:
        samples: the samples with a known text.
        dropped: ids of the samples without a text.

    Raises:
        NamepinError: as `read_samples` and `load_encoder_of`; E211 when an encoder's numbers are not finite, E216 no
            such device.
    """

    name: ClassVar[str] = "examples"
    version: ClassVar[int] = 1

    def __init__(self, config: ExamplesConfig) -> None:
        self.config = config
        sources = SampleSources(config.samples, config.data, config.captions, config.images)
        self.samples, self.dropped = read_samples(sources)
        if self.dropped:
            log.info("%d of %d annotated samples have no text and are left out", len(self.dropped), self._read)
        self._texts = [_text_key(sample.text) for sample in self.samples]
        self._encoder: FusionEncoder | None = None
        if config.selection == "similar":
            device = device_named(config.device)
            self._encoder = load_encoder_of(config.features, config.weights, config.revision, device)
        self._weights = digest([self._encoder and self._encoder.identity, self._content()])
        if self._encoder:
            self._features = kept_features(self._folder(), self._weights, self.samples, self._encoder, config)

    @property
    def _read(self) -> int:
        return len(self.samples) + len(self.dropped)

    @property
    def fingerprint(self) -> str:
        """Covers the samples, the encoder where one is used, and how samples are chosen; no paths."""
        fields = {"n", "selection"} if self.config.selection == "similar" else {"n", "selection", "seed"}
        return fingerprint(self.name, self.version, self.config.model_dump(include=fields), weights=self._weights)

    def run(self, requests: Sequence[ExamplesRequest], media: Media) -> list[Examples]:
        """The samples for each post, in the order in which a prompt shows them.

        Raises:
            ToolUnavailable: when the device's memory is full.
        """
        if self._encoder is None:
            return [self._draw(request) for request in requests]
        pictures = [media.images.get(request.image.sha256) if request.image else None for request in requests]
        texts = [request.text for request in requests]
        features, notices = encode(self._encoder, texts, pictures, self.config.batch_size)
        cosines = (features @ self._features.T).tolist()
        return [self._nearest(request, row, notices) for request, row in zip(requests, cosines, strict=True)]

    def _nearest(self, request: ExamplesRequest, cosines: Sequence[float], notices: tuple[Notice, ...]) -> Examples:
        rounded = [round(cosine, DIGITS) for cosine in cosines]
        # A stable sort: of equally similar samples the earlier one counts as the nearer.
        order = sorted(self._others(request), key=lambda i: -rounded[i])[: self.config.n]
        return Examples(examples=tuple(self._example(i, rounded[i]) for i in reversed(order)), notices=notices)

    def _draw(self, request: ExamplesRequest) -> Examples:
        own = f"/{request.id}" if self.config.selection == "random" else ""
        order = list(range(len(self.samples)))
        random.Random(f"{self.config.seed}{own}").shuffle(order)
        allowed = set(self._others(request))
        chosen = [i for i in order if i in allowed][: self.config.n]
        return Examples(examples=tuple(self._example(i, None) for i in chosen))

    def _others(self, request: ExamplesRequest) -> list[int]:
        text = _text_key(request.text)
        return [i for i, s in enumerate(self.samples) if s.id != request.id and self._texts[i] != text]

    def _example(self, i: int, similarity: float | None) -> Example:
        sample = self.samples[i]
        return Example(
            id=sample.id,
            text=sample.text,
            caption=sample.caption,
            annotation=sample.annotation,
            similarity=similarity,
        )

    def _content(self) -> str:
        """Digest of everything in the samples that goes into prompts or features."""
        sees = self._encoder is not None and self._encoder.sees
        return digest(
            [
                [s.id, s.text, s.caption, s.annotation, file_sha256(s.image) if sees and s.image else None]
                for s in self.samples
            ]
        )

    def _folder(self) -> Path:
        return self.config.store or default_cache_dir() / self.name / self._weights[:16]


def kept_features(
    folder: Path, identity: str, samples: Sequence[Sample], encoder: FusionEncoder, config: ExamplesConfig
) -> Tensor:
    """The samples' features, (samples, D), each of length one: read from `folder`, else computed and written there.

    The folder holds `features.safetensors`, and `index.json` with the rows' ids and the fingerprint. Damaged features,
    and features of another fingerprint, are computed again. If the folder cannot be written, each start computes them.

    Raises:
        NamepinError: E211 when the encoder's numbers are not finite.
    """
    ids = [sample.id for sample in samples]
    features = _read_features(folder, identity, ids)
    if features is None:
        features = _compute(samples, encoder, config.batch_size)
        _write_features(folder, identity, ids, features)
    return features


def encode(
    encoder: FusionEncoder, texts: Sequence[str], pictures: Sequence[Image.Image | None], size: int
) -> tuple[Tensor, tuple[Notice, ...]]:
    """Features of posts in batches of `size`, (posts, D), each of length one, and warnings."""
    if not texts:
        return torch.zeros(0, 0), ()
    parts, notices = in_batches(
        len(texts), size, lambda part: encoder.encode(texts[part], pictures[part]), AnnotatedExamples.name
    )
    features = torch.cat(parts)
    if not features.isfinite().all():
        raise NamepinError(
            "E211", "the encoder's features are not finite numbers", where="examples.weights",
            mend="download the weights again",
        )  # fmt: skip
    return F.normalize(features, dim=1), notices


def _compute(samples: Sequence[Sample], encoder: FusionEncoder, size: int) -> Tensor:
    parts = []
    shown = Console(stderr=True)
    starts = track(
        range(0, len(samples), size), "features of the annotated samples", console=shown, transient=True,
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
    for start in starts:
        part = samples[start : start + size]
        pictures = [load_image(s.image).image if encoder.sees and s.image else None for s in part]
        parts.append(encode(encoder, [sample.text for sample in part], pictures, size)[0])
    return torch.cat(parts)


def _read_features(folder: Path, identity: str, ids: Sequence[str]) -> Tensor | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        index = parse_json((folder / INDEX_FILE).read_bytes())
        if index != {"fingerprint": identity, "ids": list(ids)}:
            return None
        features = load_file(folder / FEATURES_FILE)["features"]
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
    return features if features.shape[:1] == (len(ids),) and features.isfinite().all() else None


def _write_features(folder: Path, identity: str, ids: Sequence[str], features: Tensor) -> None:
    """Write the features. The index is deleted first and written last, so it never names incomplete features."""
    from safetensors.torch import save_file

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX_FILE).unlink(missing_ok=True)
        with atomic_path(folder / FEATURES_FILE) as partial:
            save_file({"features": features.contiguous()}, partial)
        atomic_write(folder / INDEX_FILE, dump_json({"fingerprint": identity, "ids": list(ids)}))
    except OSError as error:
        log.warning("the samples' features cannot be kept in %s (%s): they are computed at each start", folder, error)


def _text_key(text: str) -> str:
    return " ".join(text.casefold().split())
