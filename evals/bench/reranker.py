"""Speedup of reranking from reading the question once, at LLaVA-like prompt lengths.

The architecture is LLaVA-1.5's, scaled down: Llama with 8 layers of 512 channels (7B: 32 of 4096) and CLIP ViT with 4
layers of 256 at the real 336 pixels, so that the picture is 576 tokens as in LLaVA-1.5. Random weights are large, so
that attention is uneven. All times are measured in one run on one machine, and only their ratios are claimed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from namepin.evals.bench.harness import time_interleaved
from namepin.tools.images.tensors import CLIP_MEAN, CLIP_STD
from namepin.tools.interfaces import RerankRequest
from namepin.tools.media import Media
from namepin.tools.reranker.config import LlavaRerankerConfig
from namepin.tools.reranker.likelihood import Question
from namepin.tools.reranker.llava import CONVERSATION, PICTURE, LlavaModel
from namepin.tools.reranker.prompt import EXAMPLES, INSTRUCTION, table7
from namepin.tools.types import ImageRef

SMALL_EYES = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
SMALL_TEXT = {
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}
REF = ImageRef(sha256="0" * 64, width=640, height=480)


def bench(rounds: int = 5) -> dict[str, float]:
    """Seconds (medians of `rounds`) of one `score` call with 1 and with 5 candidates, and of 5 whole passes.

    The picture is encoded before the measurement, since this happens once per post.

    Returns:
        `prompt_tokens`; `candidates_1_s`, `candidates_5_s`, `ratio_5_to_1` (goal: at most 1.3);
        `whole_passes_5_s` and `speedup` over them; `max_relative_difference` of the log-likelihoods (goal: 1e-4).
    """
    model, (request, media) = random_llava(SMALL_EYES, SMALL_TEXT), a_post()
    with torch.inference_mode():
        question = model.question(table7(request), request, media)
        shared = model.read(question).log_likelihoods(question.answers)
        whole = _whole_passes(model, question)
        seconds = time_interleaved(
            {
                "candidates_1_s": lambda: model.read(question).log_likelihoods(question.answers[:1]),
                "candidates_5_s": lambda: model.read(question).log_likelihoods(question.answers),
                "whole_passes_5_s": lambda: _whole_passes(model, question),
            },
            rounds,
        )
    worst = max(abs(a - b) for a, b in zip(shared, whole, strict=True)) / max(map(abs, whole))
    return {
        "prompt_tokens": float(question.embedded.shape[1]),
        **seconds,
        "ratio_5_to_1": seconds["candidates_5_s"] / seconds["candidates_1_s"],
        "speedup": seconds["whole_passes_5_s"] / seconds["candidates_5_s"],
        "max_relative_difference": worst,
    }


def _whole_passes(model: LlavaModel, question: Question) -> list[float]:
    """The log-likelihoods from K passes over question and answer."""
    net: Any = model.generator
    return [_whole_pass(net, question, answer) for answer in question.answers]


def _whole_pass(net: Any, question: Question, answer: Sequence[int]) -> float:
    ids = torch.tensor([answer])
    embedded = torch.cat([question.embedded, net.get_input_embeddings()(ids)], dim=1)
    states = net.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    start = question.embedded.shape[1]
    logits = net.lm_head(states[:, start - 1 : -1]).float().log_softmax(-1)
    return float(logits.gather(2, ids.unsqueeze(2)).double().sum())


def random_llava(vision: Mapping[str, Any], text: Mapping[str, Any]) -> LlavaModel:
    """A LLaVA of these sizes, with random weights and the bench's tokenizer."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    words = _tokenizer()
    eyes = CLIPVisionConfig(image_size=336, patch_size=14, **vision)
    # Weights are large enough for uneven attention at any width.
    spread = 2.0 / text["hidden_size"] ** 0.5
    spoken = LlamaConfig(vocab_size=32064, max_position_embeddings=4096, initializer_range=spread, **text)
    image = words.convert_tokens_to_ids(PICTURE)
    config = LlavaConfig(vision_config=eyes, text_config=spoken, image_token_index=image)
    config._attn_implementation = "eager"
    net: Any = LlavaForConditionalGeneration(config)
    settings = LlavaRerankerConfig(weights="random weights", dtype="float32")
    return LlavaModel(settings, net.eval().requires_grad_(False), words, (CLIP_MEAN, CLIP_STD), "random")


def a_post() -> tuple[RerankRequest, Media]:
    """Table 7's second example, with a picture."""
    sentence, span, candidates, _ = EXAMPLES[1]
    tokens = tuple(sentence.split())
    request = RerankRequest(text=sentence, tokens=tokens, token_span=span, candidates=candidates, image=REF)
    picture = Image.effect_mandelbrot((640, 480), (-2, -1.5, 1, 1.5), 30).convert("RGB")
    return request, Media(images={REF.sha256: picture})


def _tokenizer() -> Any:
    """Byte pairs learnt from the conversation: most of its words are one token, as with Llama's tokenizer."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<pad>", "</s>", "<image>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    pairs.train_from_iterator([CONVERSATION, INSTRUCTION, json.dumps(EXAMPLES)], trainer)
    wrap: Any = transformers.PreTrainedTokenizerFast
    return wrap(tokenizer_object=pairs, pad_token="<pad>", eos_token="</s>", additional_special_tokens=["<image>"])
