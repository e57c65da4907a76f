"""The table of published checkpoints, recounted from the architectures, and the texts about requirements."""

from typing import Any

import pytest
import torch
from pydantic import BaseModel
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2ForImageTextRetrieval,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Sam2VideoConfig,
    Sam2VideoModel,
    SamConfig,
    SamModel,
)

from namepin.agent.workflows.checkpoint_sizes import PUBLISHED, NeededWeights, fit, wanted_weights
from namepin.tools.grounder.config import OfaGrounderConfig
from namepin.tools.matcher.config import BlipMatcherConfig
from namepin.tools.models.config import OfaConfig
from namepin.tools.nets.albef import Albef, AlbefSizes
from namepin.tools.nets.ofa import Ofa, OfaSizes
from namepin.tools.nets.seem import Seem, SeemSizes
from namepin.tools.nets.seem.focal import FocalSizes
from namepin.tools.reranker.config import LlavaRerankerConfig

EYES = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "patch_size": 14,
}


def llama(width: int, inner: int, layers: int, heads: int, words: int, key_heads: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=words, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_heads,
    )  # fmt: skip


def llava(width: int, inner: int, layers: int, heads: int) -> LlavaConfig:
    eyes = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
        patch_size=14,
    )  # fmt: skip
    return LlavaConfig(vision_config=eyes, text_config=llama(width, inner, layers, heads, 32064, heads))


def blip(**eyes: int) -> BlipConfig:
    words = {"num_attention_heads": 12, "encoder_hidden_size": eyes.get("hidden_size", 768)}
    return BlipConfig(vision_config={"image_size": 384, **eyes}, text_config=words)


def sam(width: int, layers: int, heads: int, whole: list[int]) -> SamConfig:
    eyes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "mlp_dim": 4 * width}
    return SamConfig(vision_config={**eyes, "global_attn_indexes": whole})


def ofa(width: int, above: int, below: int, heads: int, blocks: tuple[int, int, int]) -> tuple[Any, Any]:
    sizes = {"encoder_layers": above, "decoder_layers": below, "heads": heads, "blocks": blocks}
    return Ofa, OfaSizes(width=width, inner=4 * width, **sizes)  # type: ignore[arg-type]


OFA_BASE = ofa(768, 6, 6, 12, (3, 4, 23))
OPT = {
    "model_type": "opt",
    "vocab_size": 50304,
    "hidden_size": 2560,
    "ffn_dim": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "word_embed_proj_dim": 2560,
}
ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "llava-hf/llava-1.5-7b-hf": (LlavaForConditionalGeneration, llava(4096, 11008, 32, 32)),
    "llava-hf/llava-1.5-13b-hf": (LlavaForConditionalGeneration, llava(5120, 13824, 40, 40)),
    "meta-llama/Meta-Llama-3-8B-Instruct": (LlamaForCausalLM, llama(4096, 14336, 32, 32, 128256, 8)),
    "Salesforce/blip2-opt-2.7b": (
        Blip2ForConditionalGeneration,
        Blip2Config(vision_config=EYES, qformer_config={}, text_config=OPT),
    ),
    "Salesforce/blip2-itm-vit-g": (
        Blip2ForImageTextRetrieval,
        Blip2Config(vision_config=EYES, qformer_config={"use_qformer_text_input": True, "vocab_size": 30523}),
    ),
    "Salesforce/blip-itm-large-coco": (
        BlipForImageTextRetrieval,
        blip(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16),
    ),
    "Salesforce/blip-itm-base-coco": (BlipForImageTextRetrieval, blip()),
    "facebook/sam-vit-huge": (SamModel, sam(1280, 32, 16, [7, 15, 23, 31])),
    "facebook/sam-vit-large": (SamModel, sam(1024, 24, 16, [5, 11, 17, 23])),
    "facebook/sam-vit-base": (SamModel, sam(768, 12, 12, [2, 5, 8, 11])),
    # The hub's folder holds the video model.
    "facebook/sam2.1-hiera-tiny": (Sam2VideoModel, Sam2VideoConfig()),
    "google/owlv2-base-patch16-ensemble": (
        Owlv2ForObjectDetection,
        Owlv2Config(vision_config={"image_size": 960, "patch_size": 16}),
    ),
    "seem_focall_v0.pt": (
        Seem,
        SeemSizes(backbone=FocalSizes(width=192, depths=(2, 2, 18, 2), levels=4, depthwise=False)),
    ),
    "seem_focalt_v0.pt": (Seem, SeemSizes()),
    "albef_snli_ve_lavis.pt": (Albef, AlbefSizes(kinds=False)),
    "OFA-Sys/ofa-tiny": ofa(256, 4, 4, 4, (3, 4, 6)),
    "OFA-Sys/ofa-medium": ofa(512, 4, 4, 8, (3, 4, 23)),
    "OFA-Sys/ofa-base": OFA_BASE,
    "OFA-Sys/ofa-large": (Ofa, OfaSizes()),
    "OFA-Sys/ofa-huge": ofa(1280, 24, 12, 16, (3, 8, 36)),
    "snli_ve_base_best.pt": OFA_BASE,
    "snli_ve_large_best.pt": (Ofa, OfaSizes()),
    "refcoco_base_best.pt": OFA_BASE,
    "refcoco_large_best.pt": (Ofa, OfaSizes()),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts_equal_architectures(name: str) -> None:
    kind, config = ARCHITECTURES[name]
    with torch.device("meta"):
        net = kind(config)
    linear = [m for n, m in net.named_modules() if isinstance(m, torch.nn.Linear) and not n.endswith("lm_head")]
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[name].parameters
    assert sum(m.weight.numel() for m in linear) == PUBLISHED[name].linear


def test_memory_gb_depends_on_dtype_and_quantization() -> None:
    llava = PUBLISHED["llava-hf/llava-1.5-7b-hf"]
    assert llava.memory_gb("bfloat16") == pytest.approx(14.13, abs=0.01)
    assert llava.memory_gb("float32") == pytest.approx(28.25, abs=0.01)
    assert llava.memory_gb("bfloat16", "8bit") == pytest.approx(7.33, abs=0.01)
    assert llava.memory_gb("bfloat16", "4bit") == pytest.approx(4.04, abs=0.01)


@pytest.mark.parametrize(
    ("gpu", "said"),
    [(None, "no GPU"), (24.0, "fits in bf16, 8-bit, 4-bit"), (8.0, "fits in 8-bit, 4-bit"), (2.0, "fits not")],
)
def test_fit_names_forms_that_gpu_memory_allows(gpu: float | None, said: str) -> None:
    needed = next(wanted_weights(LlavaRerankerConfig()))
    assert said in fit(needed, gpu) and "14.1 GB in bf16, 7.3 GB in 8-bit, 4.0 GB in 4-bit" in fit(needed, gpu)
    blip = next(wanted_weights(BlipMatcherConfig()))
    assert fit(blip, 24.0) == "weights take 1.8 GB in float32; of 24 GB on the GPU: fits in float32"


def test_wanted_weights_of_nested_settings_give_download_commands(tmp_path: Any) -> None:
    class Outer(BaseModel):
        matcher: BlipMatcherConfig = BlipMatcherConfig()

    (needed,) = wanted_weights(Outer())
    assert needed.weights == "Salesforce/blip-itm-large-coco" and not needed.quantisable
    local = NeededWeights(str(tmp_path), None, "float32", "none", False)
    assert local.here and local.memory_gb is None and fit(local, 24.0) == "size unknown"
    away = NeededWeights("someone/no-such-model", "abc", "float32", "none", False)
    assert not away.here and away.command == "namepin pull someone/no-such-model"
    file = NeededWeights("weights/seem_focall_v0.pt", None, "float32", "none", False)
    assert not file.here and file.command == "namepin pull weights/seem_focall_v0.pt"
    assert file.published is PUBLISHED["seem_focall_v0.pt"]
    albef = NeededWeights("weights/albef_snli_ve_lavis.pt", None, "float32", "none", False)
    assert albef.published and albef.command.startswith(
        "curl --fail --create-dirs -o weights/albef_snli_ve_lavis.pt https"
    )
    assert albef.command.endswith("/LAVIS/models/ALBEF/albef_snli_ve_lavis.pt")
    assert NeededWeights("my.pth", None, "float32", "none", False).command == "put my.pth there"


def test_wanted_command_of_hub_name_is_pull_and_of_other_address_curl() -> None:
    (needed,) = wanted_weights(OfaGrounderConfig(ofa=OfaConfig(weights="OFA-Sys/ofa-base")))
    assert needed.command == "namepin pull OFA-Sys/ofa-base"
    (needed,) = wanted_weights(OfaGrounderConfig())
    assert needed.command.startswith("curl") and needed.command.endswith("/checkpoints/refcoco_large_best.pt")
