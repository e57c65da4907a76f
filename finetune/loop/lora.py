"""LoRA for the recipes of large nets: its layers, and its adapter folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from namepin.finetune.loop.run_folder import settings_of
from namepin.tools.errors import NamepinError, install_command
from namepin.tools.loading.adapters import AdapterManifest, save_adapter_of
from namepin.tools.loading.pretrained import locate, weights_sha256


@dataclass(frozen=True)
class Layers:
    """The trained parts of a net as patterns of full names: linear layers with LoRA, few parameters without LoRA."""

    adapted: str
    spared: str | None = None
    whole: str | None = None


LANGUAGE = Layers(
    r".*\.(q_proj|k_proj|v_proj|o_proj|out_proj|gate_proj|up_proj|down_proj|fc1|fc2|q|k|v|o|wi_0|wi_1|wo)$",
    spared=r".*(vision|qformer|multi_modal|language_projection).*",
)
"""The layers of a language model; the parts that read the picture are frozen."""


class _Adapted(Protocol):
    """A recipe's LoRA settings."""

    @property
    def weights(self) -> str: ...

    @property
    def rank(self) -> int: ...

    @property
    def alpha(self) -> int: ...

    @property
    def dropout(self) -> float: ...

    @property
    def seed(self) -> int: ...


def with_lora(net: Any, recipe: _Adapted, layers: Layers) -> Any:
    """The net with LoRA on some layers. Of the other parameters only the `whole` ones are trainable.

    Raises:
        NamepinError: E301 without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise NamepinError("E301", "the package peft is missing", mend=install_command("namepin[gpu]")) from error
    torch.manual_seed(recipe.seed)
    net.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(lora_dropout=recipe.dropout, **lora_settings(net, recipe, layers)), net)
    for name, parameter in net.named_parameters():
        if ".lora_" in name or is_whole(name, layers):
            parameter.data = parameter.data.float()  # 16-bit weights would lose AdamW's small steps
            parameter.requires_grad_(True)
    return net


def is_whole(name: str, layers: Layers) -> bool:
    """Whether a parameter is trained without LoRA."""
    return layers.whole is not None and re.fullmatch(layers.whole, name) is not None


def lora_settings(net: nn.Module, recipe: _Adapted, layers: Layers) -> dict[str, Any]:
    """PEFT's settings that affect the weights."""
    settings = {"r": recipe.rank, "lora_alpha": recipe.alpha, "target_modules": layers.adapted}
    if layers.spared and any(re.fullmatch(layers.spared, name) for name, _ in net.named_modules()):
        settings["exclude_modules"] = layers.spared
    return settings


def save_lora(
    net: nn.Module,
    recipe: _Adapted,
    layers: Layers,
    folder: Path,
    task: Literal["rerank", "match", "ground", "extract"],
) -> None:
    """An adapter's folder for the tool of a task (`namepin.tools.loading.adapters`)."""
    settings = {key: value for key, value in settings_of(recipe).items() if key not in ("out", "root", "weights")}
    base = locate(recipe.weights)
    manifest = AdapterManifest(
        task=task,
        base_model=recipe.weights if not Path(recipe.weights).exists() else Path(recipe.weights).name,
        base_sha256=weights_sha256(base),
        rank=recipe.rank,
        training=settings,
    )
    full = [name for name, _ in net.named_parameters() if is_whole(name, layers)]
    save_adapter_of(net, folder, manifest, lora_settings(net, recipe, layers), full)
