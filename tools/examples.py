"""Multimodal similar example awareness (RiVEG section IV-B1b): which annotated samples a post is like.

The samples' features are computed once and kept, with their ids and a fingerprint, in a folder of three small files; a
changed file of samples, encoder or picture makes them anew. A post is never shown its own annotation, nor that of a
post with the same text.
"""

import json
import random
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationError

from tools.base import digest, fingerprint
from tools.disk_cache import default_cache_dir
from tools.errors import NamepinError
from tools.features import Features, FeaturesConfig, Vectors, load_features
from tools.images import load_image
from tools.interfaces import Example, Examples, ExamplesRequest
from tools.media import Media
from tools.types import Frozen

LONGEST = 4000


class ExamplesConfig(Frozen):
    """The samples, how they are chosen, and where their features are kept.

    Attributes:
        samples: JSONL of `{"id", "text", "annotation"}`, with `caption` and `image` (a path beside the file) where
            there are any; `namepin data samples` makes it of PLIM's annotations and a data set.
        n: how many are shown (the paper's 5).
        selection: `similar` is MSEA; `fixed` shows every post the same random ones (the paper's w/o MSEA), `random`
            draws anew for each post.
        seed: of `fixed` and `random`.
        order: where the most similar one stands in the prompt.
        features: the encoder.
        store: folder of the features; None: below the user's cache folder.
    """

    samples: str = "plim-samples.jsonl"
    n: Annotated[int, Field(ge=0, le=50)] = 5
    selection: Literal["similar", "fixed", "random"] = "similar"
    seed: int = 1
    order: Literal["best_first", "best_last"] = "best_first"
    features: FeaturesConfig = FeaturesConfig()
    store: Path | None = None


class Sample(Frozen):
    """One annotated sample; other keys of its row are not read."""

    id: Annotated[str, Field(min_length=1, max_length=500)]
    text: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    annotation: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    caption: Annotated[str, Field(max_length=LONGEST)] | None = None
    image: str | None = None


class SimilarExamples:
    """Chooses annotated samples for posts (`ExamplesTool`). Features are needed for `similar` only."""

    name: ClassVar[str] = "examples"
    version: ClassVar[int] = 1

    def __init__(self, config: ExamplesConfig, features: Features | None = None) -> None:
        """Read the samples; load the encoder, unless it is given, and the samples' features.

        Raises:
            NamepinError: as `read_samples`; E21x for the encoder; E12x for a sample's picture.
        """
        self.config = config
        self.samples = read_samples(Path(config.samples))
        self._keys = [_text_key(sample.text) for sample in self.samples]
        self._digest = digest([sample.model_dump(mode="json") for sample in self.samples])
        self._lock = threading.Lock()
        self._features: Features | None = None
        self._vectors: Vectors = np.zeros((len(self.samples), 1), np.float32)
        if config.selection == "similar":
            self._features = features or load_features(config.features)
            self._vectors = self._stored()

    @property
    def fingerprint(self) -> str:
        """The samples, how they are chosen, and by which encoder."""
        settings = self.config.model_dump(mode="json", include={"n", "selection", "seed", "order"})
        settings["features"] = self._features.identity if self._features else None
        return fingerprint(self.name, self.version, settings, weights=self._digest)

    def run(self, requests: Sequence[ExamplesRequest], media: Media) -> list[Examples]:
        """The chosen samples of every post; fewer than `n` where there are not that many others.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
        """
        if self._features is not None and requests:
            images = [media.images[r.image.sha256] if r.image else None for r in requests]
            with self._lock:
                vectors = self._features.of([r.text for r in requests], images)
            similarities = vectors @ self._vectors.T
            return [self._similar(request, row) for request, row in zip(requests, similarities, strict=True)]
        return [self._drawn(request) for request in requests]

    def _similar(self, request: ExamplesRequest, similarity: Vectors) -> Examples:
        allowed = self._others(request)
        best = sorted(allowed, key=lambda i: (-similarity[i], self.samples[i].id))[: self.config.n]
        if self.config.order == "best_last":
            best.reverse()
        return Examples(examples=tuple(self._example(i, round(float(similarity[i]), 6)) for i in best))

    def _drawn(self, request: ExamplesRequest) -> Examples:
        key = "fixed" if self.config.selection == "fixed" else f"{request.id}/{request.text}"
        order = list(range(len(self.samples)))
        random.Random(f"{self.config.seed}/{key}").shuffle(order)
        allowed = set(self._others(request))
        chosen = [i for i in order if i in allowed][: self.config.n]
        return Examples(examples=tuple(self._example(i, None) for i in chosen))

    def _others(self, request: ExamplesRequest) -> list[int]:
        key = _text_key(request.text)
        return [i for i, s in enumerate(self.samples) if s.id != request.id and self._keys[i] != key]

    def _example(self, index: int, similarity: float | None) -> Example:
        fields = self.samples[index].model_dump(include={"id", "text", "caption", "annotation"})
        return Example(**fields, similarity=similarity)

    def _stored(self) -> Vectors:
        """The samples' features from the store; computed, and put there, where they are missing or not these."""
        assert self._features is not None
        known = digest({"samples": self._digest, "features": self._features.identity})
        folder = self.config.store or default_cache_dir() / "examples" / known[:16]
        ids = [sample.id for sample in self.samples]
        kept = _read_store(folder, known, ids)
        if kept is not None:
            return kept
        beside = Path(self.config.samples).parent
        images = [load_image(beside / sample.image).image if sample.image else None for sample in self.samples]
        vectors = self._features.of([sample.text for sample in self.samples], images)
        _write_store(folder, known, ids, vectors)
        return vectors


def read_samples(path: Path) -> tuple[Sample, ...]:
    """The samples of a JSONL file.

    Raises:
        NamepinError: E130 when it is missing, E134 when a row is no sample or an id comes twice.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        mend = "make it with namepin data samples, or set examples.samples"
        raise NamepinError("E130", "no annotated samples here", where=str(path), mend=mend) from error
    found: dict[str, Sample] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        mend = 'a row is {"id", "text", "annotation"}'
        try:
            row = json.loads(line)
            sample = Sample.model_validate({k: row[k] for k in Sample.model_fields if k in row})
        except (ValueError, TypeError) as error:
            first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
            raise NamepinError("E134", f"not an annotated sample: {what}", where=where, mend=mend) from error
        if sample.id in found:
            raise NamepinError("E134", f"the sample {sample.id!r} comes twice", where=where, mend="keep one of them")
        found[sample.id] = sample
    if not found:
        raise NamepinError("E134", "the file holds no samples", where=str(path), mend="give one a line")
    return tuple(found.values())


def _read_store(folder: Path, known: str, ids: Sequence[str]) -> Vectors | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        about: Mapping[str, object] = json.loads((folder / "samples.json").read_text("utf-8"))
        vectors = load_file(folder / "features.safetensors")["features"]
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
    fits = about.get("fingerprint") == known and about.get("ids") == list(ids) and len(vectors) == len(ids)
    return np.asarray(vectors, dtype=np.float32) if fits and np.isfinite(vectors).all() else None


def _write_store(folder: Path, known: str, ids: Sequence[str], vectors: Vectors) -> None:
    from safetensors.numpy import save_file

    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"features": vectors}, folder / "features.safetensors")
        (folder / "samples.json").write_text(json.dumps({"fingerprint": known, "ids": list(ids)}), "utf-8")
    except OSError as error:
        raise NamepinError("E500", f"cannot keep the features: {error.strerror}", where=str(folder)) from error


def _text_key(text: str) -> str:
    return " ".join(text.split()).casefold()
