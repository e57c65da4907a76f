"""Turn a LoRA checkpoint of LLaVA's own code into an adapter folder (`namepin.tools.loading.adapters`).

    python -m namepin.tools.loading.convert_llava SOURCE OUT --base llava-hf/llava-1.5-7b-hf

SOURCE holds the files of LLaVA's training: `adapter_config.json`, `adapter_model.bin` (or `.safetensors`) and, with the
projector, `non_lora_trainables.bin`. The base is the same model in transformers' form.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from namepin.tools.errors import NamepinError
from namepin.tools.loading.adapters import LORA, SETTINGS, AdapterManifest, write_adapter
from namepin.tools.loading.encoder import read_safetensors
from namepin.tools.loading.pretrained import another_model, few, read_json, read_pickle, weights_sha256

_MEND = "give a folder that LLaVA's LoRA training wrote"
_LORA_NAME = re.compile(r"base_model\.model\.model\.(layers\.\d+\..+\.lora_[AB])(?:\.default)?\.weight")
_PROJECTOR = {"0": "linear_1", "2": "linear_2"}
_PROJECTOR_NAME = re.compile(r"(?:base_model\.)?(?:model\.)*mm_projector\.([02])\.(weight|bias)")


def convert(source: Path, out: Path, base: str, revision: str | None = None) -> AdapterManifest:
    """Write the adapter of `source` to `out`.

    Args:
        source: see the module.
        out: the new folder; created if it is missing.
        base: transformers folder of the base, or its name on the hub. A folder's weights are fingerprinted, so that the
            adapter fits no other.
        revision: commit of the base on the hub.

    Raises:
        NamepinError: E210 a file is missing, E211 damaged, E212 not a LLaVA LoRA, E214 a pickle with code in it.
    """
    settings = read_json(source / SETTINGS)
    if settings.get("peft_type") != "LORA" or not isinstance(settings.get("r"), int):
        raise another_model(f"{SETTINGS} does not describe a LoRA", str(source), _MEND)
    lora = _rename(_tensors(source, Path(LORA).stem), _lora_name, source)
    extra = source / "non_lora_trainables.bin"
    full = _rename(read_pickle(extra), _projector_name, source) if extra.is_file() else {}
    _check_rank(lora, int(settings["r"]), source)
    local = Path(base)
    manifest = AdapterManifest(
        task="rerank",
        base_model=local.name if local.is_dir() else base,
        revision=revision,
        base_sha256=weights_sha256(local) if local.is_dir() else None,
        rank=settings["r"],
        training={"converted_from": "LLaVA"},
    )
    layers = sorted({name.rsplit(".lora_", 1)[0].rsplit(".", 1)[1] for name in lora})
    config = {
        "r": settings["r"],
        "lora_alpha": settings.get("lora_alpha", settings["r"]),
        # The vision encoder has layers of the same names, which LLaVA does not tune.
        "target_modules": rf".*language_model\.layers\..*\.({'|'.join(layers)})",
        "use_rslora": bool(settings.get("use_rslora", False)),
    }
    write_adapter(out, manifest, config, lora, full)
    return manifest


def _tensors(source: Path, stem: str) -> Mapping[str, Tensor]:
    if (source / f"{stem}.safetensors").is_file():
        return read_safetensors(source / f"{stem}.safetensors")
    if not (source / f"{stem}.bin").is_file():
        raise NamepinError("E210", f"{stem}.bin is missing", where=str(source), mend=_MEND)
    return read_pickle(source / f"{stem}.bin")


def _rename(tensors: Mapping[str, Tensor], rename: Any, source: Path) -> dict[str, Tensor]:
    renamed = {name: rename(name) for name in tensors}
    if strange := [name for name, new in renamed.items() if new is None]:
        raise another_model(f"{len(strange)} tensors are unknown: {few(strange)}", str(source), _MEND)
    return {renamed[name]: value for name, value in tensors.items()}


def _lora_name(name: str) -> str | None:
    """The name in transformers' form, where LLaVA's language model is a part and not the whole model."""
    match = _LORA_NAME.fullmatch(name)
    return f"base_model.model.model.language_model.{match[1]}.weight" if match else None


def _projector_name(name: str) -> str | None:
    match = _PROJECTOR_NAME.fullmatch(name)
    return f"model.multi_modal_projector.{_PROJECTOR[match[1]]}.{match[2]}" if match else None


def _check_rank(lora: Mapping[str, Tensor], rank: int, source: Path) -> None:
    wrong = [name for name, value in lora.items() if value.shape[0 if ".lora_A." in name else 1] != rank]
    if wrong or not lora:
        raise another_model(f"{SETTINGS} says rank {rank}, the tensors differ: {few(wrong)}", str(source), _MEND)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m namepin.tools.loading.convert_llava", description=__doc__.splitlines()[0]
    )
    parser.add_argument("source", type=Path, help="folder with adapter_model.bin and non_lora_trainables.bin")
    parser.add_argument("out", type=Path, help="the adapter's new folder")
    parser.add_argument("--base", required=True, help="transformers folder or hub name of the base")
    parser.add_argument("--revision", help="commit of the base on the hub")
    given = parser.parse_args(arguments)
    try:
        manifest = convert(given.source, given.out, given.base, given.revision)
    except NamepinError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    print(f"{given.out}: rank {manifest.rank} on {manifest.base_model}; use it with --set reranker.adapter={given.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
