"""The published CoNLL form: `txt/SPLIT.txt`, `txt_fine/SPLIT.txt`, boxes in `xml/`, masks in `masks/`."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from namepin.evals.datasets.losses import Losses
from namepin.evals.datasets.names import name_key
from namepin.evals.datasets.rows import PostRow
from namepin.tools.files import atomic_write, file_name
from namepin.tools.images.polygons import mask_of, polygons_of
from namepin.tools.jsonl import dump_json
from namepin.tools.labels import FINE51, FINE_TO_COARSE8
from namepin.tools.types import Mask, token_offsets


@dataclass(frozen=True, slots=True)
class _Mention:
    first: int
    end: int
    name: str
    row: PostRow


@dataclass(frozen=True, slots=True)
class _TokenPost:
    """A post in this form: tokens, and mentions that do not overlap."""

    row: PostRow
    tokens: tuple[str, ...]
    mentions: tuple[_Mention, ...]


def write(rows: Iterable[PostRow], target: Path, split: str, losses: Losses) -> None:
    """Write a split; `txt_fine/` where every mention has one of the 51 types."""
    posts = [post for row in rows if (post := _token_post(row, losses))]
    mentions = [mention for post in posts for mention in post.mentions]
    fine = bool(mentions) and all(mention.row.get("fine_label") in FINE51 for mention in mentions)
    columns = {"txt": ["label"]} | ({"txt_fine": ["coarse8", "fine_label"]} if fine else {})
    for folder, keys in columns.items():
        (target / folder).mkdir(exist_ok=True)
        atomic_write(target / folder / f"{split}.txt", "\n".join(_lines(post, keys) for post in posts))
    if not fine:
        for post in posts:
            for mention in post.mentions:
                if mention.row.get("fine_label"):
                    losses.count_loss(
                        post.row["id"], "fine types, since other mentions have none: there is no txt_fine/"
                    )
    _write_regions(posts, "boxes", target / "xml", ".xml", _voc, losses)
    _write_regions(posts, "masks", target / "masks", ".json", _labelme, losses)


def _token_post(row: PostRow, losses: Losses) -> _TokenPost | None:
    """The post; None, and a problem, where its id cannot be on one line."""
    post_id, text = str(row["id"]), str(row["text"])
    if post_id != post_id.strip() or any(char in post_id for char in "\r\n\t") or not _is_utf8(post_id):
        losses.count_loss(post_id, "posts whose ids cannot stand in a line")
        return None
    given = tuple(row.get("tokens") or text.split())
    chosen = _apart(row["entities"], post_id, losses)
    offsets = token_offsets(text, given)
    borders = {border for entity in chosen for border in (entity["start"], entity["end"])}
    pieces = [piece for offset in offsets for piece in _split_token(offset, borders)]
    if len(pieces) > len(offsets):
        losses.count_change(post_id, "posts in which tokens are cut where a mention begins or ends")
    words = [text[start:end] for start, end in pieces]
    tokens = tuple(_clean(word) for word in words)
    if list(tokens) != words:
        losses.count_change(
            post_id, "posts with tabs, line ends or half characters in a token, each written as one space"
        )
    if " ".join(words) != text:
        losses.count_change(post_id, "posts whose text becomes the tokens joined by one space")
    mentions = []
    for entity in chosen:
        inside = [i for i, (start, end) in enumerate(pieces) if entity["start"] <= start and end <= entity["end"]]
        if inside:
            first, end = inside[0], inside[-1] + 1
            mentions.append(_Mention(first, end, " ".join(tokens[first:end]), entity))
        else:
            losses.count_loss(post_id, "mentions of white space alone")
    _count_other_keys(row, losses)
    return _TokenPost(row, tokens, tuple(mentions))


def _count_other_keys(row: PostRow, losses: Losses) -> None:
    post_id = row["id"]
    if row.get("extra"):
        losses.count_loss(post_id, "posts with other keys, which the form has no place for")
    if row.get("image") and row["image"] != f"images/{post_id.removesuffix('.jpg')}.jpg":
        losses.count_change(post_id, "pictures that this form looks for as images/ID.jpg, and not by their path")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(token: str) -> str:
    """The token with each character that ends a column or a line replaced by one other character."""
    return "".join(" " if char in "\t\r\n" or "\ud800" <= char <= "\udfff" else char for char in token)


def _apart(entities: Sequence[PostRow], post_id: str, losses: Losses) -> list[PostRow]:
    """The entities that do not overlap, longer ones first, in text order."""
    chosen: list[PostRow] = []
    for entity in sorted(entities, key=lambda e: (e["start"] - e["end"], e["start"])):
        if any(entity["start"] < other["end"] and other["start"] < entity["end"] for other in chosen):
            losses.count_loss(post_id, "mentions within or across a longer one: a token has one tag")
        else:
            chosen.append(entity)
    return sorted(chosen, key=lambda e: int(e["start"]))


def _split_token(offset: tuple[int, int], borders: set[int]) -> list[tuple[int, int]]:
    """A token's offsets, split at the borders within it."""
    points = [offset[0], *sorted(border for border in borders if offset[0] < border < offset[1]), offset[1]]
    return list(zip(points, points[1:], strict=False))


def _lines(post: _TokenPost, keys: Sequence[str]) -> str:
    tags = [["O"] * len(keys) for _ in post.tokens]
    for mention in post.mentions:
        labels = {**mention.row, "coarse8": FINE_TO_COARSE8.get(mention.row.get("fine_label", ""))}
        for i in range(mention.first, mention.end):
            tags[i] = [f"{'B' if i == mention.first else 'I'}-{labels[key]}" for key in keys]
    lines = ["\t".join([token, *tag]) for token, tag in zip(post.tokens, tags, strict=True)]
    return "\n".join([f"IMGID:{post.row['id']}", *lines]) + "\n"


def _write_regions(
    posts: Sequence[_TokenPost], kind: str, folder: Path, suffix: str, render: Any, losses: Losses
) -> None:
    """Write a file for each post with regions or a known size; mentions of one name share their regions."""
    if not any(kind in mention.row for post in posts for mention in post.mentions):
        return
    folder.mkdir(exist_ok=True)
    for post in posts:
        by_name: dict[str, list[Any]] = {}
        for mention in post.mentions:
            if kind not in mention.row:
                losses.count_change(
                    post.row["id"], f"mentions without {kind}, which this form reads as not in the picture"
                )
            regions = mention.row.get(kind, [])
            name = name_key(mention.name)
            if name in by_name and by_name[name] != regions:
                losses.count_change(
                    post.row["id"], f"mentions of one name with other {kind}: in this form they share all"
                )
            by_name.setdefault(name, [])
            by_name[name] += [region for region in regions if region not in by_name[name]]
        path = folder / file_name(post.row["id"], suffix)
        data = render(post.row, [(name, region) for name, regions in by_name.items() for region in regions], losses)
        if data is None:
            path.unlink(missing_ok=True)  # from an earlier conversion
        else:
            atomic_write(path, data)


def _voc(row: PostRow, boxes: Sequence[tuple[str, list[float]]], losses: Losses) -> bytes | None:
    if not boxes and not row.get("size"):
        return None
    root = Element("annotation")
    SubElement(root, "filename").text = name_key(row.get("image") or f"{row['id']}.jpg")
    if row.get("size"):
        size = SubElement(root, "size")
        for side, value in zip(("width", "height"), row["size"], strict=True):
            SubElement(size, side).text = str(value)
    for name, box in boxes:
        item = SubElement(root, "object")
        SubElement(item, "name").text = name
        bounds = SubElement(item, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            SubElement(bounds, side).text = repr(float(value)).removesuffix(".0")
    indent(root)
    return bytes(tostring(root, "utf-8"))


def _labelme(row: PostRow, masks: Sequence[tuple[str, PostRow]], losses: Losses) -> str | None:
    shapes: list[dict[str, Any]] = []
    size = None
    for group, (name, data) in enumerate(masks):
        mask = Mask.model_validate(data)
        polygons = polygons_of(mask)
        shape = {"label": name, "group_id": group, "flags": {}}
        if not polygons:
            losses.count_loss(row["id"], "masks without a pixel")
        elif mask_of(polygons, mask.size) == mask:
            shapes += [{**shape, "shape_type": "polygon", "points": [list(p) for p in part]} for part in polygons]
        else:  # outlines cannot represent some holes exactly
            shapes.append({**shape, "shape_type": "mask", **_bitmap(mask)})
        size = size or mask.size
        if mask.size != size:
            losses.count_loss(row["id"], "masks of another size than the post's first")
            shapes = [other for other in shapes if other["group_id"] != group]
    if size is None:
        return None
    page: dict[str, Any] = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imageData": None}
    page |= {
        "imagePath": f"../{row['image']}" if row.get("image") else "",
        "imageHeight": size[0],
        "imageWidth": size[1],
    }
    return dump_json(page, indent=1)


def _bitmap(mask: Mask) -> dict[str, Any]:
    """The mask in the form of labelme's AI tools: a PNG at the inclusive corners of its box."""
    from PIL import Image

    x1, y1, x2, y2 = (int(value) for value in mask.tight_box() or (0, 0, 1, 1))
    file = io.BytesIO()
    Image.fromarray(mask.to_array()[y1:y2, x1:x2]).save(file, "PNG")
    return {"points": [[x1, y1], [x2 - 1, y2 - 1]], "mask": base64.b64encode(file.getvalue()).decode("ascii")}
