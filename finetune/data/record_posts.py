"""Add the record of training posts to weights of an earlier release.

`python -m namepin.finetune.data.record_posts FOLDER --dataset gmner --root DIR --split train`. The split must be the
one that the manifest names by its sha256.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from namepin.evals.datasets import READERS
from namepin.evals.datasets.gold import Dataset
from namepin.evals.overlap import KEY, TrainedPosts
from namepin.evals.run import load_dataset
from namepin.tools.errors import NamepinError, in_one_line
from namepin.tools.files import atomic_write
from namepin.tools.jsonl import dump_json

_MANIFESTS = ("namepin.json", "config.json")


def record_posts(folder: Path, dataset: Dataset) -> TrainedPosts:
    """Add a split's posts to the manifest of weights.

    Args:
        folder: the weights' folder.
        dataset: the split that they were trained on.

    Raises:
        NamepinError: E210 without a manifest, E205 when it names other data.
    """
    file = next((folder / name for name in _MANIFESTS if (folder / name).is_file()), None)
    content: Any = json.loads(file.read_bytes()) if file else {}
    inner = content if file and file.name == _MANIFESTS[0] else content.get("training", {})
    if file is None or "data_sha256" not in inner:
        raise NamepinError("E210", "no manifest of a training here", where=str(folder), mend="give the weights' folder")
    if dataset.sha256 not in inner["data_sha256"].values():
        what = f"they were not trained on {dataset.title}"
        raise NamepinError("E205", what, where=str(file), mend="give the split whose sha256 the manifest names")
    record = TrainedPosts.of((gold.post.id, gold.post.text) for gold in dataset.posts)
    if KEY in inner:
        record = record.together_with(TrainedPosts.model_validate(inner[KEY]))
    inner[KEY] = record.model_dump()
    atomic_write(file, dump_json(content, indent=1) + "\n")
    return record


def main(argv: Sequence[str] | None = None) -> None:
    """Add the record, and print the number of its posts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", required=True, choices=READERS)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--split", default="train")
    options = parser.parse_args(argv)
    record = record_posts(options.folder, load_dataset(options.dataset, options.root, options.split))
    print(f"{record.posts} posts are recorded in {options.folder}")


if __name__ == "__main__":
    with in_one_line():
        main()
