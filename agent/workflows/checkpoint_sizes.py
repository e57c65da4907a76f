"""The published checkpoints that profiles name: their sizes and their GPU memory, without a download.

The numbers of parameters follow from the architectures (tests/agent/workflows/test_checkpoint_sizes.py counts them on
torch's meta device). The hub is never asked.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from namepin.tools.loading.pins import PICKLED, SAFETENSORS, pinned_revision
from namepin.tools.loading.shipped import CLONE_COMMAND, shipped_folder

GB = 1e9
_NF4_BITS = 4.127
"""Bits per weight in 4-bit NF4: 4, plus the quantised scales (QLoRA, section 3)."""


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint on the hub.

    Attributes:
        parameters: number of all parameters.
        linear: number of parameters that bitsandbytes quantises: linear layers other than the vocabulary's head.
        stored_bytes: bytes per parameter in the files.
    """

    parameters: int
    linear: int
    stored_bytes: int

    @property
    def download_gb(self) -> float:
        """Approximate size of the download, in GB."""
        return self.parameters * self.stored_bytes / GB

    def memory_gb(self, dtype: str = "float32", quantization: str = "none") -> float:
        """Memory of the loaded weights."""
        wide = 4 if dtype == "float32" else 2
        narrow = {"none": wide, "8bit": 1.0, "4bit": _NF4_BITS / 8}[quantization]
        return (self.linear * narrow + (self.parameters - self.linear) * wide) / GB


PUBLISHED: Mapping[str, PublishedCheckpoint] = {
    "llava-hf/llava-1.5-7b-hf": PublishedCheckpoint(7_063_427_072, 6_798_966_784, stored_bytes=2),
    "llava-hf/llava-1.5-13b-hf": PublishedCheckpoint(13_351_494_656, 13_021_216_768, stored_bytes=2),
    "meta-llama/Meta-Llama-3-8B-Instruct": PublishedCheckpoint(8_030_261_248, 6_979_321_856, stored_bytes=2),
    "Salesforce/blip2-opt-2.7b": PublishedCheckpoint(3_744_761_856, 3_607_560_192, stored_bytes=4),
    "Salesforce/blip2-itm-vit-g": PublishedCheckpoint(1_172_032_258, 1_146_029_568, stored_bytes=4),
    "Salesforce/blip-itm-large-coco": PublishedCheckpoint(446_128_642, 420_414_976, stored_bytes=4),
    "Salesforce/blip-itm-base-coco": PublishedCheckpoint(223_744_258, 198_575_616, stored_bytes=4),
    "facebook/sam-vit-huge": PublishedCheckpoint(641_090_864, 633_111_552, stored_bytes=4),
    "facebook/sam-vit-large": PublishedCheckpoint(312_343_088, 305_955_840, stored_bytes=4),
    "facebook/sam-vit-base": PublishedCheckpoint(93_735_728, 88_900_608, stored_bytes=4),
    "facebook/sam2.1-hiera-tiny": PublishedCheckpoint(38_962_498, 38_020_352, stored_bytes=4),
    "google/owlv2-base-patch16-ensemble": PublishedCheckpoint(154_966_792, 126_096_640, stored_bytes=4),
    "seem_focall_v0.pt": PublishedCheckpoint(341_148_409, 239_681_664, stored_bytes=4),
    "seem_focalt_v0.pt": PublishedCheckpoint(164_586_481, 90_586_368, stored_bytes=4),
    "albef_snli_ve_lavis.pt": PublishedCheckpoint(209_756_931, 184_617_216, stored_bytes=4),
    "OFA-Sys/ofa-tiny": PublishedCheckpoint(32_925_200, 7_995_392, stored_bytes=4),
    "OFA-Sys/ofa-medium": PublishedCheckpoint(91_765_728, 31_457_280, stored_bytes=4),
    "OFA-Sys/ofa-base": PublishedCheckpoint(180_383_720, 103_415_808, stored_bytes=4),
    "OFA-Sys/ofa-large": PublishedCheckpoint(469_842_432, 359_661_568, stored_bytes=4),
    "OFA-Sys/ofa-huge": PublishedCheckpoint(925_899_264, 797_573_120, stored_bytes=4),
    "snli_ve_base_best.pt": PublishedCheckpoint(180_383_720, 103_415_808, stored_bytes=4),
    "snli_ve_large_best.pt": PublishedCheckpoint(469_842_432, 359_661_568, stored_bytes=4),
    "refcoco_base_best.pt": PublishedCheckpoint(180_383_720, 103_415_808, stored_bytes=4),
    "refcoco_large_best.pt": PublishedCheckpoint(469_842_432, 359_661_568, stored_bytes=4),
}
"""Checkpoints by name on the hub, or by file name."""

_OFA = "https://ofa-beijing.oss-cn-beijing.aliyuncs.com/checkpoints/"

_ADDRESSES: Mapping[str, str] = {
    "albef_snli_ve_lavis.pt": "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/ALBEF/",
    "snli_ve_base_best.pt": _OFA,
    "snli_ve_large_best.pt": _OFA,
    "refcoco_base_best.pt": _OFA,
    "refcoco_large_best.pt": _OFA,
}
"""File of the table that is published at a separate address -> folder of that address."""

_FILES_FROM = "xdecoder/SEEM"
"""The repository of its other files."""


@dataclass(frozen=True)
class NeededWeights:
    """Weights that a tool's settings name, and the form in which they are loaded."""

    weights: str
    revision: str | None
    dtype: str
    quantization: str
    quantisable: bool

    @property
    def published(self) -> PublishedCheckpoint | None:
        """Its entry in the table."""
        return PUBLISHED.get(self.weights) or PUBLISHED.get(Path(self.weights).name)

    @property
    def memory_gb(self) -> float | None:
        """Memory of the weights alone. For a local folder, the size of its files in any dtype."""
        return self.published.memory_gb(self.dtype, self.quantization) if self.published else None

    @property
    def here(self) -> bool:
        """Whether the weights are on this machine: at a path, shipped with Namepin, or in the hub's cache."""
        from huggingface_hub import try_to_load_from_cache

        if self.local:
            return True
        if self.weights.count("/") != 1:
            return False
        revision = pinned_revision(self.weights, self.revision)
        found = try_to_load_from_cache(self.weights, "config.json", revision=revision)
        return isinstance(found, str) and _has_tensors(Path(found).parent)

    @property
    def local(self) -> bool:
        """Whether they are at a path, or ship with Namepin."""
        return Path(self.weights).exists() or shipped_folder(self.weights) is not None

    @property
    def hub_file(self) -> tuple[str, str] | None:
        """Repository and file, for weights that are a single file of a repository."""
        name = Path(self.weights).name
        known = Path(self.weights).suffix in (".pt", ".pth") and name in PUBLISHED and name not in _ADDRESSES
        return (_FILES_FROM, name) if known else None

    @property
    def command(self) -> str:
        """The command that downloads them."""
        path = Path(self.weights)
        if self.weights.startswith("sandbox/"):
            return CLONE_COMMAND
        if path.suffix in (".pt", ".pth"):
            if path.name in _ADDRESSES:
                return f"curl --fail --create-dirs -o {path} {_ADDRESSES[path.name]}{path.name}"
            return f"namepin pull {path}" if self.hub_file else f"put {path} there"
        return f"namepin pull {self.weights}"


def _has_tensors(folder: Path) -> bool:
    """Whether a folder of the cache has all tensors: a pull that was cut leaves the small files alone there."""
    index = next(folder.glob("*.index.json"), None)
    if index is None:
        return any(folder.glob(SAFETENSORS)) or any(folder.glob(PICKLED))
    shards = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
    return all((folder / shard).is_file() for shard in shards)


def wanted_weights(config: BaseModel) -> Iterator[NeededWeights]:
    """The weights that a tool's settings name, including nested settings."""
    settings: Mapping[str, Any] = {name: getattr(config, name) for name in type(config).model_fields}
    if isinstance(settings.get("weights"), str):
        yield NeededWeights(
            weights=settings["weights"],
            revision=settings.get("revision"),
            dtype=settings.get("dtype", "float32").replace("auto", "float32"),
            quantization=settings.get("quantization", "none"),
            quantisable="quantization" in settings,
        )
    for value in settings.values():
        if isinstance(value, BaseModel):
            yield from wanted_weights(value)


def fit(needed: NeededWeights, gpu_gb: float | None) -> str:
    """A sentence: the weights' memory in each form that the tool can load, and whether they fit the GPU."""
    published = needed.published
    if published is None:
        return "size unknown"
    forms = {needed.dtype: published.memory_gb(needed.dtype)}
    if needed.quantisable:
        forms = {"bf16": published.memory_gb("bfloat16")}
        forms |= {form: published.memory_gb("bfloat16", form.replace("-", "")) for form in ("8-bit", "4-bit")}
    takes = ", ".join(f"{gb:.1f} GB in {form}" for form, gb in forms.items())
    if gpu_gb is None:
        return f"weights take {takes}; this machine has no GPU"
    holds = [form for form, gb in forms.items() if gb <= gpu_gb]
    return f"weights take {takes}; of {gpu_gb:.0f} GB on the GPU: fits " + (
        f"in {', '.join(holds)}" if holds else "not"
    )
