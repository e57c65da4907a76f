"""Parity of LLaVA's candidate log-likelihoods: one shared pass over the question, against K whole passes.

    python -m namepin.evals.bench.reranker_parity [--layers 32] [--tied]

The whole passes are transformers' own, from pixels and token ids to logits, one answer at a time. Widths, heads,
vocabulary and picture size are LLaVA-1.5-7B's; weights are random. All 32 and 24 layers take 28 GB of memory in
float32. With `--tied`, all layers of the language model share one layer's weights, which takes 4 GB.
"""

import argparse
import copy
import json
from typing import Any

import torch

from namepin.evals.bench.reranker import REF, a_post, random_llava
from namepin.tools.images.tensors import pad_to_square, squash
from namepin.tools.reranker.llava import CONVERSATION, PICTURE, LlavaModel
from namepin.tools.reranker.prompt import table7


def parity(layers: int, tied: bool = False) -> dict[str, Any]:
    """Log-likelihoods of five candidates from both, and the largest difference over the largest magnitude."""
    text = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32}
    eyes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    model = random_llava(
        {**eyes, "num_hidden_layers": max(2, layers * 24 // 32)}, {**text, "num_hidden_layers": 1 if tied else layers}
    )
    if tied:
        _repeat_layer(model.generator.model.language_model, layers)
    request, media = a_post()
    with torch.inference_mode():
        question = model.question(table7(request), request, media)
        shared = model.read(question).log_likelihoods(question.answers)
        pixels = squash(pad_to_square(media.images[REF.sha256]), 336)[None]
        whole = [_whole_pass(model, table7(request), candidate, pixels) for candidate in request.candidates]
    worst = max(abs(a - b) for a, b in zip(shared, whole, strict=True)) / max(map(abs, whole))
    return {
        "layers": layers,
        "tied": tied,
        "prompt_tokens": question.embedded.shape[1],
        "shared_prefix": shared,
        "whole_passes": whole,
        "max_relative_difference": worst,
    }


def _repeat_layer(net: Any, times: int) -> None:
    """Repeat a net's one layer; copies share its weights, but each has its own entry in the key-value cache."""
    (layer,) = net.layers
    stack = []
    for index in range(times):
        twin, attention = copy.copy(layer), copy.copy(layer.self_attn)
        attention.layer_idx = index
        twin._modules = {**layer._modules, "self_attn": attention}
        stack.append(twin)
    net.layers = torch.nn.ModuleList(stack)
    net.config.num_hidden_layers = times


def _whole_pass(model: LlavaModel, query: str, answer: str, pixels: torch.Tensor) -> float:
    words = model.tokenizer
    prompt = CONVERSATION.format(picture=PICTURE + "\n", query=query).replace(PICTURE, PICTURE * (336 // 14) ** 2)
    start = len(words(prompt)["input_ids"])
    ids = torch.tensor([[*words(f"{prompt} {answer}")["input_ids"], words.eos_token_id]])
    logits = model.generator(input_ids=ids, pixel_values=pixels, use_cache=False).logits[0].float().log_softmax(-1)
    return float(logits[start - 1 : -1].gather(1, ids[0, start:, None]).double().sum())


def main() -> None:
    """Print the comparison as JSON."""
    parser = argparse.ArgumentParser(prog="python -m namepin.evals.bench.reranker_parity")
    parser.add_argument("--layers", type=int, default=2, help="layers of the language model; LLaVA-1.5-7B has 32")
    parser.add_argument("--tied", action="store_true", help="all layers share one layer's weights")
    arguments = parser.parse_args()
    print(json.dumps(parity(arguments.layers, arguments.tied), indent=1))


if __name__ == "__main__":
    main()
