"""LLaVA's vision encoder: from an upright picture to the input of the language model.

The picture is padded to a square, as LLaVA-1.5 was trained, whatever the folder's processor says.
"""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from namepin.tools.images.tensors import pad_to_square, squash

MeanStd = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of the channels (`namepin.tools.loading.pretrained.normalisation`)."""


def visual_features(net: Any, image: Image.Image, mean_std: MeanStd) -> Tensor:
    """The layers of the vision encoder that the projector reads, concatenated: (1, patches, channels)."""
    config = net.config
    mean, std = mean_std
    square = squash(pad_to_square(image, mean), config.vision_config.image_size, mean, std)
    pixels = square[None].to(net.device, net.model.vision_tower.dtype)
    states = net.model.vision_tower(pixels, output_hidden_states=True, return_dict=True).hidden_states
    layers = config.vision_feature_layer
    read = [states[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    features = torch.cat(read, dim=-1)
    return features[:, 1:] if config.vision_feature_select_strategy == "default" else features


def project_features(net: Any, features: Tensor) -> Tensor:
    """The picture as the language model's input: (1, patches, width)."""
    seen: Tensor = net.model.multi_modal_projector(features)
    return seen
