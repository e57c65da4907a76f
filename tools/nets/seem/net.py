"""The whole SEEM: encodes a picture once, then segments it for points and words."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from namepin.tools.nets.seem.davit import Davit, DavitSizes
from namepin.tools.nets.seem.decoder import MaskDecoder, Prediction
from namepin.tools.nets.seem.focal import FocalNet, FocalSizes
from namepin.tools.nets.seem.pixels import PixelDecoder
from namepin.tools.nets.seem.text import LanguageEncoder


@dataclass(frozen=True)
class SeemSizes:
    """Sizes of a SEEM; the defaults are those of every published one, with Focal-T's encoder.

    Attributes:
        backbone: sizes of the picture encoder.
        width: width of pixel decoder and mask decoder.
        masks: channels of the mask features.
        inner: width of the transformers' MLPs in the pixel decoder.
        decoder_inner: the same in the mask decoder.
        encoder_depth: number of layers over the smallest map.
        depth: number of layers of the mask decoder.
        queries: number of masks proposed per prompt.
        projection: width of the space shared by texts and masks' classes. Words enter the decoder there, so it equals
            `width`.
        words: size of CLIP's vocabulary.
        positions: number of tokens of the longest text.
        text_width: width of the text encoder.
        text_depth: number of its layers.
    """

    backbone: FocalSizes | DavitSizes = FocalSizes()
    width: int = 512
    masks: int = 512
    inner: int = 2048
    decoder_inner: int = 2048
    encoder_depth: int = 6
    depth: int = 9
    queries: int = 101
    projection: int = 512
    words: int = 49408
    positions: int = 77
    text_width: int = 512
    text_depth: int = 12


@dataclass(frozen=True)
class Features:
    """An encoded picture.

    Attributes:
        levels: maps at 1/32, 1/16 and 1/8 of its size, (1, width, h, w).
        masks: mask features at 1/4, (1, channels, h, w).
    """

    levels: Sequence[Tensor]
    masks: Tensor


@dataclass(frozen=True)
class Words:
    """Encoded texts of one length: `tokens` (rows, tokens, projection), and `whole` (rows, projection)."""

    tokens: Tensor
    whole: Tensor


class _Head(nn.Module):
    def __init__(self, pixel_decoder: PixelDecoder, predictor: MaskDecoder) -> None:
        super().__init__()
        self.pixel_decoder, self.predictor = pixel_decoder, predictor


class Seem(nn.Module):
    """The net "Segment everything everywhere all at once"."""

    def __init__(self, sizes: SeemSizes) -> None:
        super().__init__()
        kind = sizes.backbone
        self.backbone: FocalNet | Davit = FocalNet(kind) if isinstance(kind, FocalSizes) else Davit(kind)
        text = LanguageEncoder(sizes.words, sizes.positions, sizes.text_width, sizes.text_depth, sizes.projection)
        self.sem_seg_head = _Head(
            PixelDecoder(self.backbone.widths, sizes.width, sizes.masks, sizes.inner, sizes.encoder_depth),
            MaskDecoder(
                sizes.width, sizes.decoder_inner, sizes.depth, sizes.queries, sizes.masks, sizes.projection, text
            ),
        )

    def encode(self, pixels: Tensor) -> Features:
        """One normalised picture, (1, 3, h, w), both sides multiples of 32."""
        levels, masks = self.sem_seg_head.pixel_decoder(self.backbone(pixels))
        return Features(levels, masks)

    def read(self, ids: Tensor) -> Words:
        """Texts of one length as CLIP's token ids, (rows, tokens), from start token to end token."""
        tokens = self.sem_seg_head.predictor.lang_encoder(ids)
        return Words(tokens, tokens[:, -1])

    def forward(self, features: Features, points: Tensor | None, words: Words | None) -> Prediction:
        """Masks for prompts of points, words or both; see `MaskDecoder.forward`."""
        prediction: Prediction = self.sem_seg_head.predictor(
            features.levels, features.masks, points, None if words is None else words.tokens
        )
        return prediction

    def class_logits(self, prediction: Prediction, texts: Tensor) -> Tensor:
        """How well each query's class fits each text, (rows, queries, texts); `texts` is (texts, projection)."""
        logits: Tensor = self.sem_seg_head.predictor.lang_encoder.similarity(prediction.class_embeds, texts)
        return logits


def spread_points(points: Tensor, limit: int) -> Tensor:
    """At most `limit` of the points, (n, 2) in the order given, evenly spaced and so deterministic.

    SEEM draws 512 pixels of a longer stroke at random; this function returns the same number of pixels, the same ones
    each time.
    """
    if len(points) <= limit:
        return points
    return points[torch.arange(limit, device=points.device) * len(points) // limit]
