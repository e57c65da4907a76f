"""LoRA adapters on disk: their tensors, task and base model.

A folder holds `adapter.json` (an `AdapterManifest`), and PEFT's own `adapter_config.json` and
`adapter_model.safetensors`, so that PEFT can read it too. Parameters that were trained without LoRA (LLaVA's projector)
are in `full.safetensors`.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from namepin.tools.base import digest, file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_path, atomic_write
from namepin.tools.jsonl import dump_json
from namepin.tools.loading.encoder import read_safetensors
from namepin.tools.loading.pretrained import check_names
from namepin.tools.types import Frozen

MANIFEST, SETTINGS, LORA, FULL = "adapter.json", "adapter_config.json", "adapter_model.safetensors", "full.safetensors"
_PREFIX = "base_model.model."
"""The prefix that PEFT puts before every name."""


class AdapterManifest(Frozen):
    """An adapter's `adapter.json`.

    Attributes:
        task: the task that it was tuned for.
        base_model: hub name of the base (or its folder's name).
        revision: commit of the base on the hub, if it was pinned.
        base_sha256: sha256 of the base's weights (`namepin.tools.loading.pretrained.weights_sha256`), if known. If
            given, it identifies the base, and base_model may have any name on this machine.
        rank: rank of the LoRA matrices.
        training: configuration, data and scores, for people; no code reads it.
    """

    format: Literal[1] = 1
    task: Literal["rerank", "match", "ground", "extract"]
    base_model: str
    revision: str | None = None
    base_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    rank: int = Field(ge=1)
    training: Mapping[str, Any] = Field(default_factory=dict)


class Base(Frozen):
    """The base model of an adapter: its name in the settings, its revision, and the sha256 of its weights."""

    weights: str
    revision: str | None
    sha256: str


def read_adapter_manifest(folder: Path) -> AdapterManifest:
    """The manifest of an adapter's folder.

    Raises:
        NamepinError: E210 when there is none, E211 when it is not JSON, E219 when it is not an adapter's manifest.
    """
    file = folder / MANIFEST
    if not file.is_file():
        mend = "give an adapter's folder; LLaVA's own LoRA checkpoints: see namepin.tools.loading.convert_llava"
        raise NamepinError("E210", f"no adapter here: {MANIFEST} is missing", where=str(folder), mend=mend)
    try:
        return AdapterManifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise NamepinError("E211", f"{MANIFEST} is damaged", where=str(file), mend="copy it again") from error
        where = f"{file}: {'.'.join(map(str, first['loc']))}"
        raise _mismatch(f"not an adapter's manifest: {first['msg']}", where, "see docs/gem.md") from error


def check_base(manifest: AdapterManifest, task: str, base: Base, where: str) -> None:
    """Check that the adapter was trained for this task, on this base.

    Raises:
        NamepinError: E219 when it was not.
    """
    if manifest.task != task:
        raise _mismatch(f"the adapter is for the task {manifest.task!r}, not {task!r}", where, "give another adapter")
    mend = f"set weights to {manifest.base_model}"
    if manifest.base_sha256:
        if manifest.base_sha256 != base.sha256:
            raise _mismatch(
                f"the adapter was trained on other weights than {base.weights} (its base is {manifest.base_model}, "
                f"sha256 {manifest.base_sha256[:12]}, not {base.sha256[:12]})",
                where, mend,
            )  # fmt: skip
        return
    if manifest.base_model != base.weights:
        raise _mismatch(f"the adapter's base is {manifest.base_model}, not {base.weights}", where, mend)
    if manifest.revision != base.revision:
        raise _mismatch(
            f"the adapter's base is of revision {manifest.revision!r}, not {base.revision!r}",
            where, f"set revision to {manifest.revision}",
        )  # fmt: skip


def load_adapter_onto(net: Any, folder: Path, *, task: str, base: Base) -> str:
    """Put an adapter onto a loaded net, in place. Checks that the adapter holds every tensor, and no other.

    Returns:
        The adapter's sha256, for fingerprints.

    Raises:
        NamepinError: E210, E211, E212 for missing, damaged or other tensors, E219 for another base, task or rank.
        ModuleNotFoundError: the package peft is missing.
    """
    from peft import LoraConfig, inject_adapter_in_model

    manifest = read_adapter_manifest(folder)
    check_base(manifest, task, base, str(folder))
    settings = LoraConfig(**_lora_settings(folder, manifest))
    try:
        inject_adapter_in_model(settings, net)
    except ValueError as error:  # no module of the net has such a name
        raise _mismatch(
            f"no layer of the model fits the adapter: {error}", str(folder), "give another adapter"
        ) from error
    fill_adapter(net, folder)
    sums = [file_sha256(folder / LORA), settings.lora_alpha, settings.use_rslora]
    if (folder / FULL).is_file():
        sums.append(file_sha256(folder / FULL))
    net.eval().requires_grad_(False)
    return digest(sums)


def fill_adapter(net: Any, folder: Path) -> None:
    """Copy an adapter's tensors into the LoRA layers that a net already has.

    Raises:
        NamepinError: E210, E211, E212 for missing, damaged or other tensors, E219 for another rank.
    """
    tensors = read_safetensors(folder / LORA)
    wanted = {_saved_name(name): value for name, value in net.named_parameters() if ".lora_" in name}
    _fill(wanted, tensors, str(folder / LORA))
    if (folder / FULL).is_file():
        full, own = read_safetensors(folder / FULL), dict(net.named_parameters())
        _fill({name: own[name] for name in full if name in own}, full, str(folder / FULL))


def _lora_settings(folder: Path, manifest: AdapterManifest) -> dict[str, Any]:
    """PEFT's settings that affect the output; settings for training are left out."""
    from namepin.tools.loading.pretrained import read_json

    config = read_json(folder / SETTINGS)
    if config.get("peft_type") != "LORA" or config.get("r") != manifest.rank:
        given = f"{config.get('peft_type')} of rank {config.get('r')}"
        what = f"{SETTINGS} describes {given}, {MANIFEST} LORA of {manifest.rank}"
        raise _mismatch(what, str(folder), "copy the adapter's files again")
    known = ("r", "lora_alpha", "target_modules", "exclude_modules", "use_rslora", "rank_pattern", "alpha_pattern")
    return {key: config[key] for key in known if config.get(key) is not None}


def _fill(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    mend = "copy the adapter again, or take the one that belongs to this model"
    check_names(set(wanted) - set(given), set(given) - set(wanted), where, mend)
    for name, target in wanted.items():
        if target.shape != given[name].shape:
            raise _mismatch(f"{name} is {tuple(given[name].shape)}, the model's is {tuple(target.shape)}", where, mend)
        with torch.no_grad():
            target.copy_(given[name])


def _saved_name(name: str) -> str:
    """PEFT's name of a parameter in a file: with its prefix, without the adapter's name."""
    return _PREFIX + name.replace(".default.", ".")


def _is_default_lora(name: str) -> bool:
    return ".lora_" in name and ".default." in name


def save_adapter_of(
    net: Any, folder: Path, manifest: AdapterManifest, settings: Mapping[str, Any], whole: Collection[str] = ()
) -> None:
    """Write the LoRA tensors of a net's adapter `default`.

    The manifest is written last, so a folder with a manifest is complete.

    Args:
        net: a net with LoRA layers of PEFT.
        folder: the folder; created if it is missing.
        manifest: task, base and training of the adapter.
        settings: PEFT's settings: `r`, `lora_alpha`, `target_modules`.
        whole: parameters that were trained without LoRA.
    """
    tensors = dict(net.named_parameters())
    lora = {_saved_name(name): value for name, value in tensors.items() if _is_default_lora(name)}
    write_adapter(folder, manifest, settings, lora, {name: tensors[name] for name in whole})


def write_adapter(
    folder: Path,
    manifest: AdapterManifest,
    settings: Mapping[str, Any],
    lora: Mapping[str, Tensor],
    full: Mapping[str, Tensor] | None = None,
) -> None:
    """Write an adapter's folder from tensors named as in its files."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for file, tensors in ((LORA, lora), (FULL, full)):
        if tensors:
            with atomic_path(folder / file) as partial:
                save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": manifest.base_model, **settings}
    atomic_write(folder / SETTINGS, dump_json(config, indent=1) + "\n")
    atomic_write(folder / MANIFEST, dump_json(manifest.model_dump(mode="json"), indent=1) + "\n")


def _mismatch(what: str, where: str, mend: str) -> NamepinError:
    return NamepinError("E219", what, where=where, mend=mend)
