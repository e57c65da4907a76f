"""Data sets, one reader per file; each turns `(root, split)` into an `namepin.evals.datasets.gold.Dataset`."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from namepin.evals.datasets import (
    fmnerg,
    gmner,
    jsonl,
    plain_conll,
    sandbox,
    smner,
    twitter,
    wnut17,
)
from namepin.evals.datasets.annotation_tools import coco, label_studio, labelme
from namepin.evals.datasets.gold import Dataset
from namepin.tools.types import Post

READERS: Mapping[str, Callable[[Path, str], Dataset]] = MappingProxyType(
    {
        "gmner": gmner.read,
        "fmnerg": fmnerg.read,
        "smner": smner.read,
        "twitter": twitter.read,
        "wnut17": wnut17.read,
        "sandbox": sandbox.read,
        "conll": plain_conll.read,
        "jsonl": jsonl.read,
        "labelme": labelme.read,
        "coco": coco.read,
        "label-studio": label_studio.read,
    }
)
"""Every data set by the name that `--dataset` gives it."""

POSTS: Mapping[str, Callable[[Path, str], Iterator[tuple[str, Post]]]] = MappingProxyType(
    {
        "gmner": gmner.posts,
        "fmnerg": fmnerg.posts,
        "smner": smner.posts,
        "twitter": twitter.posts,
        "wnut17": wnut17.posts,
        "sandbox": sandbox.posts,
        "conll": plain_conll.posts,
        "jsonl": jsonl.posts,
        "labelme": labelme.posts,
        "coco": coco.posts,
        "label-studio": label_studio.posts,
    }
)
"""The same data sets as streams of (place, post), without gold."""
