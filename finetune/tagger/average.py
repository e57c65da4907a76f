"""Average tagger adapters of one architecture: `python -m namepin.finetune.tagger.average OUT ADAPTER ADAPTER...`.

Runs that start from one another lie in one valley of the loss; their mean is often better than each run.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namepin.tools.errors import NamepinError, in_one_line
from namepin.tools.loading.encoder import read_safetensors
from namepin.tools.tagger.adapter import ADAPTER_FILE, Manifest, read_manifest, save_adapter


def mean_parameters(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each parameter over the parts that have it, in float32."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: torch.stack([part[name].float() for part in parts if name in part]).mean(0) for name in names}


def soup(
    folders: Sequence[Path],
    out: Path,
    weights: Sequence[int] | None = None,
    record: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write the average of `folders` to `out`, with the specification of the last one.

    Args:
        folders: adapter folders. An earlier one may lack an input table that the last one has.
        out: the folder to write.
        weights: weight of each folder; 1 by default.
        record: what the manifest says of the training, beside the averaged weights; by default their own records.

    Raises:
        NamepinError: E210-E212 for bad folders; E212 when they differ in labels or encoder, or hold factors of LoRA.
    """
    manifests = [read_manifest(folder) for folder in folders]
    last = manifests[-1]
    for folder, manifest in zip(folders, manifests, strict=True):
        if (manifest.spec.scheme, manifest.encoder_sha256) != (last.spec.scheme, last.encoder_sha256):
            raise NamepinError("E212", "adapters of different labels or encoders cannot be averaged", where=str(folder))
    parts = [read_safetensors(folder / ADAPTER_FILE) for folder in folders]
    if any(".lora_" in name for part in parts for name in part):
        raise NamepinError("E212", "factors of LoRA cannot be averaged one by one", where=str(folders[0]))
    counts = weights or [1] * len(parts)
    repeated = [part for part, count in zip(parts, counts, strict=True) for _ in range(count)]
    parts_record: list[dict[str, Any]] = [
        {"weight": count, "weights_sha256": manifest.weights_sha256, **({} if record else manifest.training)}
        for manifest, count in zip(manifests, counts, strict=True)
    ]
    about = {**(record or {}), "average_of": parts_record}
    return save_adapter(out, mean_parameters(repeated), last.spec, last.encoder_sha256, last.knowledge_style, about)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("adapters", type=Path, nargs="+")
    parser.add_argument("--weights", type=int, nargs="+", help="weight of each adapter; 1 by default")
    args = parser.parse_args(argv)
    print(soup(args.adapters, args.out, args.weights).weights_sha256)


if __name__ == "__main__":
    with in_one_line():
        main()
