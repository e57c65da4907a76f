"""One loaded SEEM: a picture is encoded once, then prompted with points, boxes and words.

A picture is scaled to a short side of 512 pixels, with a long side of at most 1024, and padded to multiples of 32. As
in SEEM's training, a point is three by three pixels of the scaled picture. A box is all pixels in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from namepin.tools.caching.lru import LruCache
from namepin.tools.errors import NamepinError
from namepin.tools.images.tensors import imagenet
from namepin.tools.loading.pretrained import device_named, shared_model
from namepin.tools.media import Media, picture
from namepin.tools.models.config import SEEM_STEP, SeemConfig
from namepin.tools.models.seem_checkpoint import SeemCheckpoint, load_seem
from namepin.tools.nets.seem import Features
from namepin.tools.nets.seem.net import spread_points
from namepin.tools.types import Box, ImageRef, Point

_STROKE = 512
"""Largest number of pixels of a stroke that are used."""


@dataclass(frozen=True)
class Ask:
    """A prompt: a place in the picture (a point, else a box), words, or both; at least one of the two."""

    point: Point | None
    box: Box | None
    words: str | None


@dataclass(frozen=True)
class Answer:
    """The mask logits that SEEM chose for a prompt, (h / 4, w / 4) of the padded picture."""

    logits: Tensor


def scale_size(size: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """(width, height) with the given short side, unless the long side would exceed its bound; each is at least 1."""
    short, long = min(size), max(size)
    if long * short_side <= long_side * short:
        new_short, new_long = short_side, short_side * long // short
    else:
        new_short, new_long = max(1, long_side * short // long), long_side
    return (new_short, new_long) if size[0] <= size[1] else (new_long, new_short)


def pad_size(size: tuple[int, int]) -> tuple[int, int]:
    """Both sides rounded up to multiples of 32."""
    return size[0] + -size[0] % SEEM_STEP, size[1] + -size[1] % SEEM_STEP


def stroke(point: Point | None, box: Box | None, size: tuple[int, int], small: tuple[int, int]) -> Tensor:
    """The pixels of the scaled picture that a prompt covers, as (n, 2) of (x, y) in 0..1 of the padded picture.

    Args:
        point: in pixels of the picture, inside it.
        box: likewise; used where there is no point.
        size: (width, height) of the picture.
        small: (width, height) of the scaled picture.
    """
    along = small[0] / size[0], small[1] / size[1]
    if point is not None:
        x, y = (int((value + 0.5) * scale) for value, scale in zip(point, along, strict=True))
        left, top, right, bottom = x - 1, y - 1, x + 2, y + 2
    else:
        assert box is not None
        left, top = int(box[0] * along[0]), int(box[1] * along[1])
        right, bottom = max(left + 1, round(box[2] * along[0])), max(top + 1, round(box[3] * along[1]))
    xs = torch.arange(max(left, 0), min(right, small[0]))
    ys = torch.arange(max(top, 0), min(bottom, small[1]))
    rows, columns = torch.meshgrid(ys, xs, indexing="ij")
    pixels = spread_points(torch.stack((columns.flatten(), rows.flatten()), dim=1), _STROKE)
    return pixels / torch.tensor(pad_size(small))


class SeemModel:
    """A loaded SEEM, safe for several threads."""

    def __init__(self, config: SeemConfig, checkpoint: SeemCheckpoint) -> None:
        self.config, self._checkpoint = config, checkpoint
        self.device = device_named(config.device)
        self._net = checkpoint.net.eval().requires_grad_(False).to(self.device)
        self._words = checkpoint.tokenizer
        self._pictures: LruCache[str, Features] = LruCache(config.cached_pictures)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its outputs, for fingerprints."""
        settings = self.config.model_dump(include={"short_side", "long_side"})
        told = {} if self.config.sees == "both" else {"sees": self.config.sees}  # older recordings stay valid
        return {**settings, **told, "checkpoint": self._checkpoint.identity}

    @torch.no_grad()
    def features(self, image: ImageRef, media: Media) -> Features:
        """The picture's features, cached for the next request.

        Raises:
            NamepinError: E120 when the picture is not in `media`.
        """
        cached = self._pictures.get(image.sha256)
        if cached is None:
            whole = picture(image, media)
            width, height = self._small(whole.size)
            pixels = imagenet(whole.resize((width, height), Image.Resampling.BICUBIC))
            full_width, full_height = pad_size((width, height))
            pixels = functional.pad(pixels, (0, full_width - width, 0, full_height - height))
            cached = self._net.encode(pixels[None].to(self.device))
            self._pictures.put(image.sha256, cached)
        return cached

    def _small(self, size: tuple[int, int]) -> tuple[int, int]:
        return scale_size(size, self.config.short_side, self.config.long_side)

    @torch.no_grad()
    def answers(self, features: Features, size: tuple[int, int], asks: Sequence[Ask]) -> list[Answer]:
        """The mask of every prompt, chosen by the point if there is one, as in SEEM's demo, else by the words.

        Prompts with equal numbers of pixels and tokens share one pass through the net, so no prompt is padded.

        Args:
            features: the result of `features`.
            size: (width, height) of the picture.
            asks: the prompts.
        """
        small = self._small(size)
        strokes = [stroke(a.point, a.box, size, small) if a.point or a.box else None for a in asks]
        texts = [self.token_ids(a.words) if a.words else None for a in asks]
        alike: dict[tuple[int, int], list[int]] = {}
        for i, (pixels, ids) in enumerate(zip(strokes, texts, strict=True)):
            alike.setdefault((0 if pixels is None else len(pixels), len(ids or ())), []).append(i)
        answers: dict[int, Answer] = {}
        for members in alike.values():
            for start in range(0, len(members), self.config.prompt_batch):
                batch = members[start : start + self.config.prompt_batch]
                logits = self._masks(features, [strokes[i] for i in batch], [texts[i] for i in batch])
                answers.update(zip(batch, map(Answer, logits.cpu()), strict=True))
        return [answers[i] for i in range(len(asks))]

    def _masks(self, features: Features, strokes: Sequence[Tensor | None], texts: Sequence[list[int] | None]) -> Tensor:
        given = [pixels for pixels in strokes if pixels is not None]
        points = torch.stack(given).to(self.device) if given else None
        words = self._net.read(torch.tensor(texts, device=self.device)) if texts[0] else None
        prediction = self._net(features, points, words)
        if points is not None:
            chosen = prediction.chosen_by_point()
        else:
            assert words is not None
            # Each prompt belongs to its own words: the diagonal of prompts and texts.
            logits = self._net.class_logits(prediction, words.whole)
            chosen = logits.diagonal(dim1=0, dim2=2).argmax(dim=0)
        masks: Tensor = prediction.masks[torch.arange(len(chosen), device=self.device), chosen]
        return masks

    def token_ids(self, text: str) -> list[int]:
        """CLIP's tokens, from start to end token. A text that is too long is cut at its end."""
        ids: list[int] = self._words(text)["input_ids"]
        return ids[: self._checkpoint.positions - 1] + ids[-1:] if len(ids) > self._checkpoint.positions else ids

    def full_size(self, answer: Answer, size: tuple[int, int]) -> Tensor:
        """Mask logits at the picture's size, (height, width)."""
        small = self._small(size)
        width, height = pad_size(small)
        square = functional.interpolate(answer.logits[None, None], (height, width), mode="bilinear")
        inside = square[..., : small[1], : small[0]]
        return functional.interpolate(inside, (size[1], size[0]), mode="bilinear")[0, 0]


def shared_seem(config: SeemConfig) -> SeemModel:
    """The SEEM of `config`, loaded once for all tools that hold it.

    Raises:
        NamepinError: E210 to E218, see `namepin.tools.loading.pretrained`.
    """
    if not Path(config.weights).exists():
        fetch = "`namepin pull seem_focall_v0.pt` fetches the published ones"
        raise NamepinError("E210", "no SEEM weights here", where=config.weights, mend=fetch)
    return shared_model(config, _load)


def _load(config: SeemConfig, path: Path, sha256: str) -> SeemModel:
    return SeemModel(config, load_seem(path, sha256, tokenizer=config.tokenizer))
