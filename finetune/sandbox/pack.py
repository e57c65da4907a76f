"""Pack the trained nets for release: `python -m namepin.finetune.sandbox.pack OUT tools/weights/sandbox`.

The packed nets have weights in half precision, the manifest and model card of each run, and no checkpoints. The
tagger's encoder is copied unchanged, since its adapter names it by its sha256.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from namepin.tools.errors import NamepinError, in_one_line

KINDS = ("entailment", "matcher", "segmenter", "grounder", "reranker")


def pack(out: Path, target: Path) -> int:
    """Write every finished run; returns the total number of bytes.

    Args:
        out: the output folder of `namepin.finetune.sandbox.train`.
        target: folder that gets one folder per tool.

    Raises:
        NamepinError: E210 when no run is finished.
    """
    if not any((out / name).is_dir() for name in ("tagger/adapter", *(f"{kind}/weights" for kind in KINDS))):
        raise NamepinError(
            "E210", "nothing was trained here", where=str(out), mend="give the OUT of namepin.finetune.sandbox.train"
        )
    for name in KINDS:
        if (out / name / "weights").is_dir():
            _halve(out / name / "weights", target / name)
    if (out / "tagger" / "adapter").is_dir():
        _copy(out / "nets" / "bert", target / "bert")
        _copy(out / "tagger" / "adapter", target / "tagger")
        manifest = target / "tagger" / "config.json"
        content = json.loads(manifest.read_text(encoding="utf-8"))
        content["spec"]["encoder"] = f"{target.name}/bert"
        content["training"]["recipe"]["encoder"] = content["spec"]["encoder"]
        manifest.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for file in target.rglob("tokenizer.json"):
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")), separators=(",", ":")) + "\n", encoding="utf-8")
    return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def _halve(source: Path, target: Path) -> None:
    _copy(source, target)
    for file in target.glob("*.safetensors"):
        tensors = load_file(file)
        small = {key: value.half() if value.dtype == torch.float32 else value for key, value in tensors.items()}
        save_file(small, file, metadata={"format": "pt"})


def main(argv: Sequence[str] | None = None) -> None:
    """Pack, and print the size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args(argv)
    print(f"{pack(options.out, options.target) / 1e6:.1f} MB in {options.target}")


if __name__ == "__main__":
    with in_one_line():
        main()
