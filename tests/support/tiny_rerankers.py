"""Language models small enough for tests, with and without eyes, and how transformers itself judges an answer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import processors
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from namepin.tools.images.tensors import pad_to_square, squash
from namepin.tools.interfaces import RerankRequest
from namepin.tools.loading.adapters import AdapterManifest, save_adapter_of
from namepin.tools.loading.pretrained import weights_sha256
from namepin.tools.reranker.prompt import EXAMPLES, table7
from namepin.tools.types import ImageRef
from support.tiny_chat import byte_tokenizer

SIDE, PATCH = 64, 16
PICTURE = Image.fromarray(np.random.default_rng(5).integers(0, 256, (30, 50, 3), dtype=np.uint8))
REF = ImageRef(sha256="ab" * 32, width=50, height=30)
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}


def request(example: int = 0, **changes: Any) -> RerankRequest:
    """One of Table 7's, with the test's picture."""
    text, span, candidates, _ = EXAMPLES[example]
    given = {"text": text, "tokens": tuple(text.split()), "token_span": span, "candidates": candidates, "image": REF}
    return RerankRequest.model_validate(given | changes)


def filled(net: Any, seed: int = 3, scale: float = 0.2) -> Any:
    """Weights from NumPy, whose stream is the same everywhere, large enough for scores to differ."""
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.from_numpy(generator.standard_normal(parameter.shape).astype(np.float32))
            is_norm = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else scale * noise)
    return net.eval()


def tokenizer() -> Any:
    """Byte pairs learnt from the prompts, across words: the worst case for a prompt that answers are appended to."""
    words = byte_tokenizer([table7(request(i)) + " " + EXAMPLES[i][3] for i in range(3)], extra=["<image>"])
    end = words.convert_tokens_to_ids("<|end|>")
    # As OPT's, it puts the end token first.
    words._tokenizer.post_processor = processors.TemplateProcessing(
        single="<|end|> $A", special_tokens=[("<|end|>", end)]
    )
    return words


def save_llava(folder: Path, seed: int = 3) -> Path:
    words = tokenizer()
    text = LlamaConfig(vocab_size=len(words), pad_token_id=0, bos_token_id=1, eos_token_id=1, **LLAMA)
    image = words.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=CLIPVisionConfig(**VISION), text_config=text, image_token_index=image)
    filled(LlavaForConditionalGeneration(config), seed).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_llama(folder: Path, seed: int = 3) -> Path:
    words = tokenizer()
    config = LlamaConfig(vocab_size=len(words), pad_token_id=0, bos_token_id=1, eos_token_id=1, **LLAMA)
    filled(LlamaForCausalLM(config), seed).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_blip2(folder: Path, language_model: str = "opt", seed: int = 3) -> Path:
    words = tokenizer()
    text: dict[str, Any] = {"model_type": language_model, "vocab_size": len(words), "pad_token_id": 0}
    if language_model == "opt":
        text |= {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "bos_token_id": 1}
        text |= {"eos_token_id": 1, "max_position_embeddings": 2048, "word_embed_proj_dim": 32}
    else:
        text |= {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "eos_token_id": 1}
        text |= {"decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    config = Blip2Config(
        vision_config=VISION,
        qformer_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "encoder_hidden_size": 32,
        },
        text_config=text,
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    filled(Blip2ForConditionalGeneration(config), seed).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, net: Any, target: str, *, rank: int = 4, **changes: Any) -> Path:
    """A LoRA adapter with weights of its own, as a recipe would leave it."""
    from peft import LoraConfig, inject_adapter_in_model

    settings = {"r": rank, "lora_alpha": 2 * rank, "target_modules": target}
    inject_adapter_in_model(LoraConfig(**settings), net)
    generator = np.random.default_rng(7)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if ".lora_" in name:
                parameter.copy_(torch.from_numpy(generator.standard_normal(parameter.shape).astype(np.float32)) * 0.3)
    given = {"task": "rerank", "base_model": base.name, "base_sha256": weights_sha256(base), "rank": rank} | changes
    save_adapter_of(net, folder, AdapterManifest.model_validate(given), settings)
    return folder


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def llava_pixels() -> torch.Tensor:
    return squash(pad_to_square(PICTURE), SIDE)[None]


def naive_llava(net: Any, words: Any, prompt: str, answers: Sequence[str]) -> list[float]:
    """As `naive`, with the picture."""
    spread = prompt.replace("<image>", "<image>" * (SIDE // PATCH) ** 2)
    return naive(lambda ids: net(input_ids=ids, pixel_values=llava_pixels()).logits, words, spread, answers)


def naive(logits_of: Any, words: Any, prompt: str, answers: Sequence[str]) -> list[float]:
    """The summed log-probability of each answer and its end token, each by one whole pass of transformers' own.

    An answer begins where the tokens of all answers and of the prompt alone begin to differ.
    """
    alone = words(prompt)["input_ids"]
    rows = [[*words(prompt + " " + answer)["input_ids"], words.eos_token_id] for answer in answers]
    start = next((i for i, column in enumerate(zip(alone, *rows, strict=False)) if len(set(column)) > 1), len(alone))
    sums = []
    for row in rows:
        with torch.no_grad():
            found = logits_of(torch.tensor([row]))[0].double().log_softmax(-1)
        sums.append(float(sum(found[i - 1, row[i]] for i in range(start, len(row)))))
    return sums
