"""A LLaVA small enough to be trained inside a test to tell pictures apart; served by `tiny_chat.serve`."""

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from namepin.finetune.sandbox.qwen_vl import byte_tokenizer

SIDE, PATCH = 32, 16
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train(
    folder: Path, prompt: str, captions: Mapping[str, Image.Image], *, system: str = "", max_steps: int = 600
) -> int:
    """Train until it gives every picture its caption by heart, save it, and return the steps it took."""
    tokenizer = byte_tokenizer([prompt, system, *captions], extra=["<image>"])
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size=size, crop_size=size),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    query = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
    if system:
        query.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    written = processor.apply_chat_template(query, add_generation_prompt=True)
    batch = processor(
        images=list(captions.values()),
        text=[f"{written}{caption}<|end|>" for caption in captions],
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    asked = processor(images=[next(iter(captions.values()))], text=[written], return_tensors="pt")["input_ids"].shape[1]
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, :asked] = -100

    model = _net(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    steps, loss = 0, float("inf")
    while loss > 0.01 and steps < max_steps:
        output = model(**batch, labels=labels)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps, loss = steps + 1, output.loss.item()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return steps


def _net(tokenizer) -> LlavaForConditionalGeneration:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=end,
        eos_token_id=end,
    )
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
        )
    )
