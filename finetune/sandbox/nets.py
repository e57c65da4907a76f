"""Tiny nets for the sandbox world, of the classes that the tools load, with weights drawn from a seed.

Their vocabularies come from the world's training posts and the tools' prompts; names are split into pieces.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namepin.evals.run import load_dataset
from namepin.finetune.data.mentions import lines_of
from namepin.finetune.loop.run_folder import whole_folder
from namepin.tools.labels import COARSE4, FINE51
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.models.match_texts import MATCH_PROMPT
from namepin.tools.models.ofa_checkpoint import save_ofa
from namepin.tools.models.ofa_vocabulary import OfaVocabulary
from namepin.tools.nets.ofa import Ofa, OfaSizes
from namepin.tools.reranker.prompt import BESIDE, CAPTION, INSTRUCTION

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BLIP_SIDE, OFA_SIDE, SAM_SIDE, LLAVA_SIDE = 96, 64, 128, 96
"""Side of the square pictures that the nets read, in pixels."""

BINS = 64
"""Number of OFA's location bins. The published weights have 1,000; with fewer, each occurs often enough to learn."""


def make_nets(world: Path, out: Path, seed: int = 1) -> None:
    """Folders `bert`, `blip`, `sam`, `llava` and `ofa` under `out`, the initial weights of the recipes.

    Complete folders stay. A new folder is moved into place once it is complete.
    """
    texts = corpus(world)
    for name, make in (("bert", _bert), ("blip", _blip), ("sam", _sam), ("llava", _llava), ("ofa", _ofa)):
        if not _drawn_before(out / name):
            torch.manual_seed(seed)
            with whole_folder(out / name) as folder, quiet_transformers():
                make(folder, texts)


def _drawn_before(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors"))


def corpus(world: Path) -> list[str]:
    """The training posts' texts, knowledge, expansions and captions, and the tools' prompts."""
    texts = [gold.post.text for gold in load_dataset("sandbox", world, "train").posts]
    texts += [known for _, known in lines_of(str(world / "knowledge/train.jsonl"), "knowledge")]
    texts += [known for _, known in lines_of(str(world / "expansions/train.jsonl"), "expansion")]
    texts += [caption for _, caption in lines_of(str(world / "captions/long-train.jsonl"), "caption")]
    prompts = [
        MATCH_PROMPT,
        INSTRUCTION.format(beside=BESIDE["image"]),
        CAPTION,
        "Text Candidate Answer USER ASSISTANT",
    ]
    return texts + 20 * [*prompts, *FINE51, *COARSE4]


def _pieces(texts: Sequence[str], size: int = 1200) -> list[str]:
    """Word pieces that shorten the texts. They include name syllables, so that knowledge about several names fits."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    core: Any = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
    core.train_from_iterator([*texts, *map(chr, range(33, 127))], trainer)
    vocabulary = core.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _bert_words(words: Sequence[str], folder: Path) -> Any:
    from transformers import BertTokenizer

    tokenizer: Any = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    return tokenizer


def _bert(folder: Path, texts: Sequence[str]) -> None:
    from transformers import BertConfig, BertModel

    words = _pieces(texts)
    config = BertConfig(
        vocab_size=len(words), hidden_size=128, num_hidden_layers=3, num_attention_heads=4, intermediate_size=256,
        max_position_embeddings=320,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    _bert_words(words, folder)


def _blip(folder: Path, texts: Sequence[str]) -> None:
    from transformers import BlipConfig, BlipForImageTextRetrieval

    words = _pieces(texts)
    vision = {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "image_size": BLIP_SIDE, "patch_size": 12, "layer_norm_eps": 1e-6,
        "initializer_range": 0.05,  # transformers' default is 1e-10: such weights hardly learn and are denormal
    }  # fmt: skip
    text = {
        "vocab_size": len(words) + 2, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 64, "bos_token_id": len(words), "sep_token_id": 3,
        "eos_token_id": 3, "pad_token_id": 0, "initializer_range": 0.05,
    }  # fmt: skip
    config = BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=16)
    BlipForImageTextRetrieval(config).save_pretrained(folder)
    _bert_words(words, folder)


def _sam(folder: Path, texts: Sequence[str]) -> None:
    from transformers import SamConfig, SamModel

    vision = {
        "hidden_size": 64, "mlp_dim": 128, "output_channels": 64, "num_hidden_layers": 4, "num_attention_heads": 2,
        "image_size": SAM_SIDE, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1, 3], "num_pos_feats": 32,
    }  # fmt: skip
    prompt = {"hidden_size": 64, "image_size": SAM_SIDE, "patch_size": 8, "mask_input_channels": 8}
    mask = {"hidden_size": 64, "mlp_dim": 128, "iou_head_hidden_dim": 64, "num_attention_heads": 4}
    net = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=mask))
    # SAM draws these from a unit normal; transformers' draws are so large that neighbours have nothing in common.
    places: Any = net.shared_image_embedding.positional_embedding
    torch.nn.init.normal_(places)
    net.prompt_encoder.shared_embedding.positional_embedding = places
    net.save_pretrained(folder)


def _llava(folder: Path, texts: Sequence[str]) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        PreTrainedTokenizerFast,
    )

    pieces = [*_pieces(texts), "<image>"]
    core: Any = Tokenizer(models.WordPiece({word: at for at, word in enumerate(pieces)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    make: Any = PreTrainedTokenizerFast
    tokenizer = make(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="[SEP]",
        additional_special_tokens=["<image>"],
    )
    tokenizer.save_pretrained(folder)
    vision = CLIPVisionConfig(  # the sizes of BLIP's, see `copy_vision_encoder`
        hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, image_size=LLAVA_SIDE,
        patch_size=12, layer_norm_eps=1e-6, hidden_act="gelu",
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, vision_feature_layer=-1)
    LlavaForConditionalGeneration(config).save_pretrained(folder)


def _ofa(folder: Path, texts: Sequence[str]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    core: Any = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    core.train_from_iterator([f" {text.lower()}" for text in [*texts, *(["yes", "no"] * 50)]], trainer)
    learnt = json.loads(core.to_str())["model"]
    vocabulary = {**learnt["vocab"], "<mask>": len(learnt["vocab"])}
    words = OfaVocabulary(vocabulary, [(left, right) for left, right in learnt["merges"]], 16, BINS)
    sizes = OfaSizes(
        vocabulary=words.size, width=128, inner=256, encoder_layers=3, decoder_layers=3, heads=4, token_bucket=64,
        image_bucket=8, blocks=(1, 1, 1),
    )  # fmt: skip
    save_ofa(_with_drawn_weights(Ofa(sizes), words.first_bin), words, folder)


def _with_drawn_weights(net: Ofa, first_bin: int) -> Ofa:
    """Embeddings as small as transformers' own, since they are also the logits' weights; near bins start alike."""
    places = torch.arange(BINS)[:, None] * BINS ** -torch.linspace(0, 1, net.sizes.width // 2)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if "embed_tokens" in name or "rel_pos" in name:
                value.normal_(0, 0.02)
            if "embed_tokens" in name:
                value[first_bin:] = 0.02 * 2**0.5 * torch.cat([places.sin(), places.cos()], dim=-1)
    return net


def copy_vision_encoder(blip: Path, llava: Path, out: Path) -> None:
    """A LLaVA whose CLIP tower has the weights of a BLIP's picture encoder.

    LLaVA's own tower was also trained on pictures with texts before it was joined to a language model.

    Args:
        blip: folder of a trained BLIP.
        llava: folder of a LLaVA whose tower has the same sizes.
        out: a folder for the LLaVA; a complete one stays.
    """
    from transformers import BlipForImageTextRetrieval, LlavaForConditionalGeneration

    if _drawn_before(out):
        return
    with whole_folder(out) as folder, quiet_transformers():
        shutil.copytree(llava, folder, dirs_exist_ok=True)
        vision: Any = BlipForImageTextRetrieval.from_pretrained(blip)
        net: Any = LlavaForConditionalGeneration.from_pretrained(llava)
        # BLIP lacks the norm before CLIP's layers; here the norm takes the scale of the tokens at that place.
        colours = torch.linspace(-2, 2, 64).reshape(-1, 1, 1, 1).expand(-1, 3, LLAVA_SIDE, LLAVA_SIDE)
        scale = float(vision.vision_model.embeddings(colours)[:, 1:].detach().std(-1).mean())
        net.model.vision_tower.load_state_dict(_as_clip(vision.vision_model.state_dict(), scale))
        net.save_pretrained(folder)


def _as_clip(blip: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """A BLIP's picture encoder in CLIP's names. CLIP has no patch bias, so the bias joins the position embeddings."""
    clip: dict[str, Tensor] = {}
    for name, value in blip.items():
        if ".qkv." in name:
            for part, third in zip("qkv", value.chunk(3), strict=True):
                clip[name.replace("qkv", f"{part}_proj")] = third
        else:
            clip[name.replace("self_attn.projection", "self_attn.out_proj")] = value
    places = clip.pop("embeddings.position_embedding")[0].clone()
    places[1:] += clip.pop("embeddings.patch_embedding.bias")
    clip["embeddings.position_embedding.weight"] = places
    clip["embeddings.class_embedding"] = clip["embeddings.class_embedding"].flatten()
    clip["pre_layrnorm.weight"] = torch.full_like(clip["post_layernorm.weight"], scale)
    clip["pre_layrnorm.bias"] = torch.zeros_like(clip["post_layernorm.bias"])
    return clip
