"""Pictures as input of vision nets, without torchvision: squashed or padded to a square, scaled, normalised."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

IMAGENET_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
IMAGENET_STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)
"""Mean and standard deviation of the channels, scaled to 0..1; SAM, SAM 2 and SEEM were trained with them."""


def squash(
    image: Image.Image, size: int, mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD
) -> Tensor:
    """The whole picture resized to a square, each axis by its own factor (bicubic with antialiasing, as BLIP does).

    Args:
        image: any size, RGB.
        size: side of the square in pixels.
        mean: mean of the three channels, scaled to 0..1.
        std: standard deviation of the channels.

    Returns:
        (3, size, size), float32.
    """
    return normalise(image.resize((size, size), Image.Resampling.BICUBIC), mean, std)


def pad_to_square(image: Image.Image, mean: tuple[float, ...] = CLIP_MEAN) -> Image.Image:
    """The picture centred on a square of the mean colour, as in LLaVA-1.5; an odd pixel goes to the end."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(channel * 255) for channel in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def normalise(image: Image.Image, mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD) -> Tensor:
    """An RGB picture as (3, height, width) float32: scaled to 0..1, then `(x - mean) / std` by channel."""
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0).permute(2, 0, 1)
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def imagenet(image: Image.Image) -> Tensor:
    """An RGB picture as (3, height, width) float32, normalised by ImageNet's mean and standard deviation."""
    return normalise(image, IMAGENET_MEAN, IMAGENET_STD)
