"""One loaded OFA, shared by several tools. The ResNet encodes a picture once for all questions about it.

OFA's encoder reads picture and words together, so texts can share only the patches of the ResNet.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from namepin.tools.caching.lru import LruCache
from namepin.tools.errors import NamepinError
from namepin.tools.images.tensors import squash
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.loading.pretrained import device_named, shared_model
from namepin.tools.media import Media, picture
from namepin.tools.models.config import OfaConfig
from namepin.tools.models.ofa_checkpoint import OfaCheckpoint, load_ofa
from namepin.tools.models.ofa_vocabulary import BEGIN, END, PAD, pad_rows
from namepin.tools.nets.ofa import Memory, Patches
from namepin.tools.types import ImageRef

_HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the channels that OFA normalises with."""


class OfaModel:
    """A loaded OFA, safe for several threads."""

    def __init__(self, config: OfaConfig, checkpoint: OfaCheckpoint) -> None:
        self.config, self.vocabulary, self.identity = config, checkpoint.vocabulary, checkpoint.identity
        self.device = device_named(config.device)
        self.net = checkpoint.net.eval().requires_grad_(False).to(self.device)
        self._pictures: LruCache[tuple[str, int], Patches] = LruCache(config.cached_pictures)

    def check_size(self, size: int) -> None:
        """Check that the weights have position embeddings for all patches of a square picture of `size` pixels.

        Raises:
            NamepinError: E217 when they do not.
        """
        most = self.net.sizes.image_bucket * 16
        if size > most:
            raise NamepinError(
                "E217",
                f"pictures of {size} pixels have more patches than the weights have places for",
                where=self.config.weights,
                mend=f"set image_size to {most} at most",
            )

    def patches(self, images: Sequence[ImageRef], media: Media, size: int) -> dict[str, Patches]:
        """Each picture's patches by its sha256, squashed to a square of `size` pixels.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small.
        """
        wanted = {image.sha256: image for image in images}
        found = {sha: cached for sha in wanted if (cached := self._pictures.get((sha, size))) is not None}
        missing = [image for sha, image in wanted.items() if sha not in found]

        def look(part: slice) -> Patches:
            squares = [squash(picture(image, media), size, _HALF, _HALF) for image in missing[part]]
            return self.net.look(torch.stack(squares).to(self.device))

        parts, _ = in_batches(len(missing), self.config.image_batch, look, "ofa")
        rows = (Patches(row[None].clone(), part.rows, part.columns) for part in parts for row in part.states)
        for image, patches in zip(missing, rows, strict=True):
            found[image.sha256] = patches
            self._pictures.put((image.sha256, size), patches)
        return found

    def read(self, patches: Patches, prompts: Sequence[Sequence[int]]) -> Memory:
        """The encoder's states of several prompts about one picture; each prompt with its first and last token."""
        ids = pad_rows(prompts, self.device)
        return self.net.encode(patches, ids, ids != PAD)

    def prompt(self, text: str) -> list[int]:
        """A text as the encoder's input, with its first and last special token."""
        return [BEGIN, *self.vocabulary.ids(text), END]


def shared_ofa(config: OfaConfig) -> OfaModel:
    """The OFA of `config`, loaded once for all tools that hold it.

    Raises:
        NamepinError: E210 to E218, see `namepin.tools.models.ofa_checkpoint`.
    """
    return shared_model(config, _load)


def _load(config: OfaConfig, path: Path, sha256: str) -> OfaModel:
    return OfaModel(config, load_ofa(path, sha256, tokenizer=config.tokenizer))


def as_in_riveg(expression: str) -> str:
    """A referring expression in the form of RiVEG's data files: the name joined to its expansion by a hyphen.

    OFA's text cleaning turns that hyphen into a blank. It would not change the dash of the paper's text.
    """
    return expression.replace(" – ", "-", 1)
