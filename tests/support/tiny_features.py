"""A BLIP-2 and a LLaVA small enough for tests, and how transformers itself scores and differentiates with them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2ForImageTextRetrieval,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from namepin.tools.interfaces import Query
from namepin.tools.matcher.llava import QUESTION
from support import tiny_blip

SIDE, PATCH = 64, 16
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}


def _filled(net: Any) -> Any:
    """Weights from NumPy, whose stream is the same everywhere, large enough for scores to differ."""
    generator = np.random.default_rng(3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.from_numpy(generator.standard_normal(parameter.shape).astype(np.float32))
            is_norm = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else 0.2 * noise)
    return net.eval()


def blip2_net() -> Blip2ForImageTextRetrieval:
    config = Blip2Config(
        vision_config=VISION,
        qformer_config={
            "vocab_size": tiny_blip.VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "encoder_hidden_size": 32,
            "max_position_embeddings": 64,
            "use_qformer_text_input": True,
        },
        num_query_tokens=4,
        image_text_hidden_size=16,
    )
    return _filled(Blip2ForImageTextRetrieval(config))


def save_blip2(folder: Path) -> Path:
    blip2_net().save_pretrained(folder)
    tiny_blip.tiny_tokenizer().save_pretrained(folder)
    return folder


def naive_blip2(pixels: Tensor, query: Query) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (2), features and gradient of P_T, (1 + patches, channels), by one whole pass."""
    net, seen = blip2_net(), []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        output.last_hidden_state.retain_grad()
        seen.append(output.last_hidden_state)

    net.vision_model.register_forward_hook(keep)
    text = tiny_blip.tiny_tokenizer()(f"{query.text} is belong {query.category}.", return_tensors="pt")
    logits = net(
        pixel_values=pixels[None],
        input_ids=text.input_ids,
        attention_mask=text.attention_mask,
        use_image_text_matching_head=True,
    ).logits_per_image[0]
    logits.softmax(-1)[1].backward()
    return logits.detach(), seen[0].detach()[0, 1:], seen[0].grad[0, 1:]


def llava_tokenizer() -> PreTrainedTokenizerFast:
    words = sorted({*re.findall(r"\w+|[^\w\s]+", QUESTION), "Yes", "No", "Ada", "Example", "NASA", "a", "athlete"})
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", "<image>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="</s>", additional_special_tokens=["<image>"]
    )


def llava_net() -> LlavaForConditionalGeneration:
    tokenizer = llava_tokenizer()
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=CLIPVisionConfig(**VISION), text_config=text, image_token_index=image)
    return _filled(LlavaForConditionalGeneration(config))


def save_llava(folder: Path) -> Path:
    llava_net().save_pretrained(folder)
    llava_tokenizer().save_pretrained(folder)
    return folder


def naive_llava(pixels: Tensor, query: Query) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of No and Yes, features and gradient of P_T, (patches, channels), by one whole pass."""
    net, tokenizer, seen = llava_net(), llava_tokenizer(), []

    def keep(module: Any, inputs: tuple[Tensor, ...]) -> None:
        inputs[0].retain_grad()
        seen.append(inputs[0])

    net.model.multi_modal_projector.register_forward_pre_hook(keep)
    text = QUESTION.format(entity=query.text, category=query.category)
    patches = "<image>" * (SIDE // PATCH) ** 2
    ids = tokenizer(text.replace("<image>", patches), return_tensors="pt").input_ids
    logits = net(input_ids=ids, pixel_values=pixels[None], attention_mask=torch.ones_like(ids)).logits[0, -1]
    logits = logits[[tokenizer.convert_tokens_to_ids(word) for word in ("No", "Yes")]]
    logits.softmax(-1)[1].backward()
    return logits.detach(), seen[0].detach()[0], seen[0].grad[0]
