"""Training and dev splits. An evaluation lists the faults of a file and continues; a training stops."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.evals.run import load_dataset
from namepin.tools.errors import NamepinError


def read_gold(name: str, root: Path, split: str, *, regions: bool = False) -> Dataset:
    """A split for training. One line on stderr counts the posts and regions that are left out.

    Args:
        name: the data set's layout, as `namepin eval --dataset` knows it.
        root: its folder.
        split: name of the split.
        regions: whether its boxes and masks are used.

    Raises:
        NamepinError: E130 to E139 when the split is missing or unusable; E132 at the first type outside the scheme;
            E133 when most of its boxes or masks are left out: the annotations belong to other posts.
    """
    dataset = load_dataset(name, root, split)
    for problem in dataset.problems:
        if problem.loses == "type":
            raise NamepinError(problem.code, problem.what, where=problem.where, mend="fix the file")
    if regions:
        _most_are_used(dataset, "boxes")
        _most_are_used(dataset, "masks")
    problems = [problem for problem in dataset.problems if problem.code == "E132" or regions and problem.code == "E133"]
    if problems and os.environ.get("RANK", "0") == "0":  # only the main process prints
        first = f"the first is {problems[0].code}: {problems[0].what} ({problems[0].where})"
        print(f"warning: {len(problems)} problems in {name} {split}, {first}; see namepin data check", file=sys.stderr)
    return dataset


def _most_are_used(dataset: Dataset, kind: Literal["boxes", "masks"]) -> None:
    """Require that the regions belong to the text; a name with its regions counts once per post.

    Raises:
        NamepinError: E133 at the first region that is left out, when most are.
    """
    lost = [problem for problem in dataset.problems if problem.loses == kind]
    used = {(gold.post.id, one.text) for gold in dataset.posts for one in gold.entities if getattr(one, kind)}
    if len(lost) > len(used):
        what = f"{len(lost)} of {len(lost) + len(used)} annotated {kind} are left out, such as: {lost[0].what}"
        raise NamepinError("E133", what, where=lost[0].where, mend="use the annotations of these posts")


def file_of(dataset: Dataset) -> str:
    """The file that a split's posts were read from."""
    return dataset.posts[0].where.rpartition(":")[0]


def require_pictures(dataset: Dataset) -> None:
    """Require that every named picture exists; a post may have none.

    Raises:
        NamepinError: E120 at the first post whose picture is missing.
    """
    missing = [gold for gold in dataset.posts if gold.post.image and not Path(gold.post.image).is_file()]
    if missing:
        what = f"{len(missing)} pictures are missing, such as {missing[0].post.image}"
        raise NamepinError("E120", what, where=missing[0].where, mend="add them, or take their posts out of the split")


def require_tokens(posts: Iterable[GoldPost]) -> None:
    """Require that every post has tokens, and that every mention consists of whole tokens.

    Raises:
        NamepinError: E106 at the first other post.
    """
    for gold in posts:
        if not gold.post.tokens:
            raise NamepinError("E106", f"post {gold.post.id!r} has no tokens", where=gold.where, mend="add them")
        for entity in gold.entities:
            first, end = entity.token_span
            if first < 0 or "".join(gold.post.tokens[first:end]) != "".join(entity.text.split()):
                what = (
                    f"the mention {entity.text!r} is not made of the tokens {first} to {end} of post {gold.post.id!r}"
                )
                raise NamepinError("E106", what, where=gold.where, mend="make it begin and end at token boundaries")
