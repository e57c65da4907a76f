"""A world on disk: the published data sets' layouts, pictures, knowledge, captions, truth, described regions."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from rich.progress import track

from namepin.finetune.sandbox import VERSION
from namepin.finetune.sandbox.described import describe_picture
from namepin.finetune.sandbox.names import SPLITS, words_of
from namepin.finetune.sandbox.posts import SandboxPost, posts
from namepin.tools.errors import NamepinError
from namepin.tools.images.polygons import polygons_of
from namepin.tools.types import Mask

FOLDERS = ("txt", "txt_fine", "xml", "masks", "images", "knowledge", "captions", "expansions", "truth", "regions")


WHOLE, BEGUN = "sandbox.json", "sandbox.begun.json"
"""File of the world's settings: it has the second name until the world is complete."""


def write_world(root: Path, counts: Mapping[str, int], seed: int, *, quiet: bool = False) -> None:
    """Write all splits. Equal seeds and counts give equal files; a split's first posts do not depend on its count.

    An incomplete world is written again over itself if its settings are the same. Nothing is ever deleted.

    Args:
        root: a folder that does not exist yet, or has no files, or has such a world.
        counts: number of posts of train, dev and test.
        seed: seed of the whole world.
        quiet: show no progress.

    Raises:
        NamepinError: E501 when the folder has other content, or cannot be written.
    """
    made_of = {"generator": "namepin sandbox", "version": VERSION, "seed": seed, "posts": dict(counts)}
    description = json.dumps(made_of, indent=1) + "\n"
    try:
        if not _free(root, description):
            raise NamepinError("E501", "the folder has other content", where=str(root), mend="name a new folder")
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / BEGUN).write_text(description, encoding="utf-8")
        words = words_of(seed)
        for split in SPLITS:
            written_posts = posts(split, counts[split], words[split], seed)
            tracked = track(written_posts, split, total=counts[split], disable=quiet)
            _write_split(root, split, tracked, seed)
        os.replace(root / BEGUN, root / WHOLE)
    except OSError as error:
        what = f"the world cannot be written: {error.strerror}"
        raise NamepinError("E501", what, where=str(root), mend="name a writable folder") from error


def _free(root: Path, description: str) -> bool:
    """Whether the world with this description can be written into a folder without loss."""
    if not root.exists():
        return True
    marker = root / BEGUN
    if marker.is_file() and marker.read_bytes() == description.encode():
        return not (root / WHOLE).exists()
    found = [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]
    return root.is_dir() and (not found or found == [marker] and not marker.stat().st_size)


def _write_split(root: Path, split: str, written_posts: Iterable[SandboxPost], seed: int) -> None:
    files = {name: StringIO() for name in ("txt", "txt_fine", _REGIONS, *_LINES)}
    for post in written_posts:
        for name in ("txt", "txt_fine"):
            files[name].write(_conll(post, fine=name == "txt_fine"))
        for name, rows in _LINES.items():
            for row in rows(post):
                files[name].write(json.dumps({"id": post.id, **row}) + "\n")
        files[_REGIONS].write(json.dumps(describe_picture(post, seed)) + "\n")
        post.picture.save(root / "images" / f"{post.id}.jpg", quality=92)
        (root / "xml" / f"{post.id}.xml").write_text(_boxes(post), encoding="utf-8")
        (root / "masks" / f"{post.id}.json").write_text(json.dumps(_masks(post)) + "\n", encoding="utf-8")
    for name, text in files.items():
        place = root / name / f"{split}.txt" if name in ("txt", "txt_fine") else root / name.format(split=split)
        place.write_text(text.getvalue(), encoding="utf-8")


def _conll(post: SandboxPost, *, fine: bool) -> str:
    tags: list[tuple[str, ...]] = [("O", "O") if fine else ("O",)] * len(post.tokens)
    for name in post.names:
        kind = name.thing.kind
        types = (kind.coarse8, kind.fine) if fine else (kind.coarse,)
        for at in range(len(name.tokens)):
            tags[name.start + at] = tuple(f"{'I' if at else 'B'}-{label}" for label in types)
    lines = ["\t".join((token, *tag)) for token, tag in zip(post.tokens, tags, strict=True)]
    return "\n".join([f"IMGID:{post.id}", *lines]) + "\n\n"


def _boxes(post: SandboxPost) -> str:
    width, height = post.picture.size
    found = []
    for at, name in enumerate(post.names):
        regions = [one for one in post.drawn if one.name == at]
        parts = [f"<name>{escape(name.text)}</name>"]
        for one in regions:
            edges = zip(("xmin", "ymin", "xmax", "ymax"), one.box, strict=True)
            parts.append(f"<bndbox>{''.join(f'<{key}>{value}</{key}>' for key, value in edges)}</bndbox>")
        found.append(f"<object>{''.join(parts)}</object>")
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{post.id}.jpg</filename>{size}{''.join(found)}</annotation>\n"


def _masks(post: SandboxPost) -> dict[str, Any]:
    shapes = []
    for one in post.drawn:
        if one.name is None:
            continue
        for polygon in polygons_of(Mask.from_array(one.region)):
            points = [[x, y] for x, y in polygon]
            label = post.names[one.name].text
            shapes.append(
                {"label": label, "points": points, "group_id": one.name, "shape_type": "polygon", "flags": {}}
            )
    width, height = post.picture.size
    return {"imagePath": f"{post.id}.jpg", "imageWidth": width, "imageHeight": height, "shapes": shapes}


_REGIONS = "regions/{split}.jsonl"
_LINES: Mapping[str, Callable[[SandboxPost], list[dict[str, Any]]]] = {
    "knowledge/{split}.jsonl": lambda post: [{"model": "sandbox", "knowledge": post.knowledge}],
    "captions/short-{split}.jsonl": lambda post: [{"caption": post.caption(colours=False)}],
    "captions/long-{split}.jsonl": lambda post: [{"caption": post.caption(colours=True)}],
    "expansions/{split}.jsonl": lambda post: [
        {"post": " ".join(post.tokens), "text": name.text, "expansion": name.thing.description}
        for name in post.names
        if name.known
    ],
    "truth/{split}.jsonl": lambda post: [
        {
            "objects": [
                {"shows": one.thing.description, "fine": one.thing.kind.fine, "box": one.box, "name": one.name}
                for one in post.drawn
            ]
        }
    ],
}
"""File name -> rows; a file has one line per post or per name."""
