"""Links regions of published data to mentions: by the post's id and the mention's words."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from namepin.evals.datasets.gold import GoldPost, Problem
from namepin.tools.files import file_of

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def name_key(name: str) -> str:
    """A name for comparison: white space is one space, and text that XML cannot hold is one character."""
    return " ".join(_NOT_XML.sub("\ufffd", name).split())


def file_of_post(folder: Path, post_id: str, suffix: str) -> Path:
    """A post's file in a folder of gold: by its id, with or without the `.jpg` that some ids end in."""
    path = file_of(folder, post_id, suffix)
    bare = post_id.removesuffix(".jpg")
    return path if bare == post_id or path.is_file() else file_of(folder, bare, suffix)


def unmatched_names(
    names: Mapping[str, object], gold: GoldPost, path: Path, kind: Literal["boxes", "masks"]
) -> list[Problem]:
    """A problem for each name that matches no mention of the post."""
    mentions = {name_key(entity.text): entity.text for entity in gold.entities}
    folded = {key.casefold(): text for key, text in mentions.items()}
    problems = []
    for name in names:
        key = name_key(name)
        if key in mentions:
            continue
        hint = f"; {folded[key.casefold()]!r} differs in case" if key.casefold() in folded else ""
        what = f"no mention of {gold.where} is named {key!r}; its region is left out{hint}"
        problems.append(Problem("E133", str(path), what, loses=kind))
    return problems
