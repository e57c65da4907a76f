"""BLIP-2 with a language model: the captioner, and one of the rerankers of the paper's Figure 4."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from namepin.tools.images.tensors import squash

MeanStd = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of the channels (`namepin.tools.loading.pretrained.normalisation`)."""

KIND: Literal["blip-2"] = "blip-2"
MEND = "take a BLIP-2 with a language model, such as Salesforce/blip2-opt-2.7b"


def picture_tokens(net: Any, images: list[Image.Image], mean_std: MeanStd) -> Tensor:
    """The Q-Former's summary of each picture as input of the language model: (pictures, queries, width).

    Args:
        net: a `Blip2ForConditionalGeneration`.
        images: upright; each is squashed to a square, as BLIP-2 was trained.
        mean_std: see `MeanStd`.
    """
    side = net.config.vision_config.image_size
    pixels = torch.stack([squash(image, side, *mean_std) for image in images])
    device = net.query_tokens.device
    seen = net.vision_model(pixel_values=pixels.to(device, net.vision_model.dtype)).last_hidden_state
    # With float16 weights transformers keeps the Q-Former in float32.
    wide = net.qformer.layernorm.weight.dtype
    asked = net.query_tokens.expand(len(images), -1, -1).to(wide)
    summary = net.qformer(query_embeds=asked, encoder_hidden_states=seen.to(wide)).last_hidden_state
    tokens: Tensor = net.language_projection(summary.to(net.language_projection.weight.dtype))
    return tokens


def embedder(net: Any) -> Callable[[Tensor], Tensor]:
    """Token ids to the language model's embeddings."""
    embeddings: Callable[[Tensor], Tensor] = net.language_model.get_input_embeddings()
    return embeddings
