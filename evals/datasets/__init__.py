"""Published data sets, one reader a file; each turns `(root, split)` into an `evals.gold.Dataset`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from evals.datasets import fmnerg, gmner, jsonl, sandbox, smner, twitter, wnut17
from evals.gold import Dataset

READERS: Mapping[str, Callable[[Path, str], Dataset]] = MappingProxyType(
    {
        "gmner": gmner.read,
        "fmnerg": fmnerg.read,
        "smner": smner.read,
        "twitter": twitter.read,
        "wnut17": wnut17.read,
        "sandbox": sandbox.read,
        "jsonl": jsonl.read,
    }
)
"""Every data set by the name that `--dataset` gives it."""
