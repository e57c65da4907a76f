"""Whether a profile's weights were trained on the posts that are to be scored."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from namepin.evals.datasets.gold import Dataset
from namepin.evals.overlap import Overlap

_FOLDERS = ("adapter", "weights")
"""Settings that name a folder of weights, in every tool's section and below."""


def weight_folders(profile: Mapping[str, Any]) -> dict[str, Path]:
    """The folders of weights of a profile on this machine, by setting and value: `tagger.adapter=out/gem/adapter`.

    Args:
        profile: a profile in its resolved form, see `Settings.dump`.
    """
    from namepin.tools.loading.shipped import shipped_folder  # imports torch, so only on demand

    found: dict[Path, str] = {}
    for key, value in _named_folders(profile, ""):
        folder = shipped_folder(value) or Path(value)
        if folder.is_dir():
            found.setdefault(folder, f"{key}={value}")
    return {name: folder for folder, name in found.items()}


def _named_folders(values: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _named_folders(value, f"{above}{name}.")
        elif name in _FOLDERS and isinstance(value, str) and value:
            yield f"{above}{name}", value


def training_seed(folder: Path) -> int | None:
    """The seed that the weights of a folder were trained with; None where no manifest says."""
    for name, *keys in (("namepin.json", "settings", "seed"), ("config.json", "training", "recipe", "seed")):
        found: Any = json.loads((folder / name).read_bytes()) if (folder / name).is_file() else None
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, int):
            return found
    return None


def overlap_of(profile: Mapping[str, Any], data: Dataset) -> Overlap:
    """The posts of a data set that a profile's weights were trained on.

    Raises:
        NamepinError: E211 when a manifest is damaged.
    """
    return Overlap.of(weight_folders(profile), [gold.post for gold in data.posts])


def checked_overlap(profile: Mapping[str, Any], data: Dataset, *, allow: bool) -> Overlap:
    """As `overlap_of`; posts that the weights were trained on are refused, unless they are allowed.

    Raises:
        NamepinError: E141; E211 when a manifest is damaged.
    """
    found = overlap_of(profile, data)
    if not allow:
        found.require_small(data.title)
    return found
