"""Maintained grounders small enough for tests, saved as transformers folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    BartConfig,
    BertConfig,
    BertTokenizer,
    Florence2Config,
    Florence2ForConditionalGeneration,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    SwinConfig,
    YolosConfig,
    YolosForObjectDetection,
)

from namepin.tools.interfaces import GroundRequest, ReferringQuery
from namepin.tools.types import ImageRef
from support.tiny_blip import WORDS

MARKS = {"[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
"""Where BERT has them: MM-Grounding-DINO's code knows these numbers."""


def a_query(name: str, expansion: str = "") -> ReferringQuery:
    tail = f" – {expansion}" if expansion else ""
    return ReferringQuery(text=name, label="PER", category="PER", expression=f"{name} (PER){tail}")


QUERIES = (a_query("Ada", "a woman"), a_query("NASA", "the space agency on the wall"), a_query("x", "y"))


def ground_request(ref: ImageRef, *queries: ReferringQuery) -> GroundRequest:
    return GroundRequest(image=ref, text="a post", queries=queries)


def shaken(net: Any, seed: int) -> Any:
    """Weights from NumPy, whose stream is the same everywhere, tied ones alike."""
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.from_numpy(generator.standard_normal(parameter.shape).astype(np.float32))
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else 0.2 * noise)
    return net.eval()


def bert_words() -> BertTokenizer:
    """Single letters under BERT's numbers for the marks."""
    others = iter(word for word in [*WORDS, "(", ")"] if word not in MARKS and word != "[PAD]")
    places = {number: word for word, number in MARKS.items()} | {0: "[PAD]"}
    rows = [places.get(i) or next(others, f"[unused{i}]") for i in range(1030)]
    return BertTokenizer(vocab={word: i for i, word in enumerate(rows)})


def tiny_mmgdino(seed: int = 0) -> MMGroundingDinoForObjectDetection:
    eyes = SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        out_indices=[2, 3, 4],
    )  # fmt: skip
    words = BertConfig(
        vocab_size=1030, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    net = MMGroundingDinoForObjectDetection(
        MMGroundingDinoConfig(
            backbone_config=eyes, text_config=words, num_queries=12, encoder_layers=1, encoder_ffn_dim=16,
            encoder_attention_heads=2, decoder_layers=2, decoder_ffn_dim=16, decoder_attention_heads=2, d_model=64,
            max_text_len=40, decoder_bbox_embed_share=False, decoder_cls_embed_share=False,
        )
    )  # fmt: skip
    return shaken(net, seed)


def save_mmgdino(folder: Path, seed: int = 0) -> Path:
    tiny_mmgdino(seed).save_pretrained(folder)
    bert_words().save_pretrained(folder)
    return folder


def florence_words() -> Any:
    """Letters as BART spells them, then Florence-2's marks: a thousand locations and what stands around outlines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import BartTokenizerFast

    letters = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    spelling = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(letters)}, merges=[], unk_token="<unk>"))
    spelling.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spelling.decoder = decoders.ByteLevel()
    words = BartTokenizerFast(tokenizer_object=spelling, extra_special_tokens={"image_token": "<image>"})
    words.add_tokens([f"<loc_{place}>" for place in range(1000)] + ["<poly>", "</poly>", "<sep>"], special_tokens=True)
    return words


def tiny_florence2(seed: int = 33) -> Any:
    eyes = {
        "depths": [1, 1, 1, 1], "embed_dim": [8, 8, 16, 16], "num_heads": [1, 1, 2, 2], "num_groups": [1, 1, 2, 2],
        "window_size": 2, "projection_dim": 16, "drop_path_rate": 0.0,
    }  # fmt: skip
    words = BartConfig(
        vocab_size=1265, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=256,
        dropout=0.0, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    net: Any = Florence2ForConditionalGeneration(
        Florence2Config(vision_config=eyes, text_config=words.to_dict(), image_token_id=261)
    )
    net = shaken(net, seed)
    with torch.no_grad():  # places weigh more than words, or the answer would be one word, again and again
        net.model.language_model.decoder.embed_positions.weight *= 8
    # As the published folders have it.
    for name, value in {
        "num_beams": 3,
        "no_repeat_ngram_size": 3,
        "forced_bos_token_id": 0,
        "early_stopping": True,
    }.items():
        setattr(net.generation_config, name, value)
    return net


def save_florence2(folder: Path, seed: int = 33) -> Path:
    tiny_florence2(seed).save_pretrained(folder)
    florence_words().save_pretrained(folder)
    return folder


def save_yolos(folder: Path, seed: int = 5) -> Path:
    """An object detector of transformers with random weights."""
    config = YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[32, 32],
        patch_size=8,
        num_detection_tokens=12,
        num_labels=3,
    )
    shaken(YolosForObjectDetection(config), seed).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    settings = {"image_processor_type": "YolosImageProcessor", "size": size, "do_resize": True, "do_pad": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
