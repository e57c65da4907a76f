"""A Qwen2.5-VL of few weights with drawn values, with a tokenizer and picture settings of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from namepin.tools.loading.quiet import quiet_transformers

PATCH, MERGE = 14, 2
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Qwen's conversation, with fewer tokens."""


def byte_tokenizer(
    texts: Sequence[str],
    extra: Sequence[str] = (),
    size: int = 1200,
    whole: Sequence[str] = (),
    names_apart: bool = False,
) -> Any:
    """Byte-level BPE learnt from the texts: any text goes in and comes out unchanged.

    Its merges reach across words, so what the texts share shrinks to few tokens, and training to seconds.

    Args:
        texts: what it learns from.
        extra: further special tokens.
        size: number of tokens, without `whole`.
        whole: texts that are one token each, wherever they occur.
        names_apart: merge across words, but not into one that begins with a capital, so that a name has the same tokens
            in a post and in an answer. Only then does a small net learn to copy it in a few minutes.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [*SPECIAL, *extra]
    bpe: Any = Tokenizer(models.BPE())
    steps: Any = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    if names_apart:
        steps.insert(0, pre_tokenizers.Split(Regex(r"\p{Lu}\w*"), "isolated"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(steps)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    make: Any = PreTrainedTokenizerFast
    tokenizer = make(
        tokenizer_object=bpe,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=special[2:],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens(list(whole))
    return tokenizer


def save_qwen_vl(
    folder: Path,
    texts: Sequence[str],
    *,
    width: int = 64,
    layers: int = 2,
    seed: int = 0,
    tokens: int = 1200,
    whole: Sequence[str] = (),
    names_apart: bool = False,
    text: Mapping[str, Any] | None = None,
    vision: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model with drawn weights, whose tokenizer is learnt from `texts`.

    Args:
        folder: where it goes.
        texts: prompts and answers.
        width: of the language model's states; a multiple of 16.
        layers: number of its layers.
        seed: seed of the weights.
        tokens: size of the vocabulary, without `whole`.
        whole: texts that are one token each.
        names_apart: whether the tokenizer keeps words with a capital apart.
        text: other sizes of the language model.
        vision: other sizes of the picture's encoder.
    """
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = byte_tokenizer(texts, VISION, tokens, whole, names_apart)
    number: Any = tokenizer.convert_tokens_to_ids
    torch.manual_seed(seed)
    make_config: Any = Qwen2_5_VLConfig
    config = make_config(
        text_config={"vocab_size": len(tokenizer), **_text_sizes(width, layers), **_special(number), **(text or {})},
        vision_config={**_vision_sizes(width), **(vision or {})},
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    net: Any = Qwen2_5_VLForConditionalGeneration(config)
    net.generation_config.eos_token_id = number("<|end|>")
    pictures: Any = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 112 * 112})
    with quiet_transformers():
        net.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        pictures.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


def _special(number: Any) -> Mapping[str, int]:
    end = number("<|end|>")
    return {"bos_token_id": end, "eos_token_id": end, "pad_token_id": number("<|pad|>")}


def _text_sizes(width: int, layers: int) -> Mapping[str, Any]:
    return {
        "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers,
        "num_attention_heads": width // 16, "num_key_value_heads": width // 16, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
    }  # fmt: skip


def _vision_sizes(width: int) -> Mapping[str, Any]:
    return {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": width,
        "fullatt_block_indexes": [1], "window_size": 56, "patch_size": PATCH, "spatial_merge_size": MERGE,
    }  # fmt: skip
