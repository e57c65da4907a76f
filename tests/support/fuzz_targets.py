"""Entry points for untrusted bytes, one function each: it takes bytes and must raise nothing.

A coded `NamepinError` and a listed problem are valid answers; any other exception is a finding.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from namepin.agent.config.settings import load_settings
from namepin.agent.posts import read_posts, ready
from namepin.evals.datasets.conll import read_dataset, read_tagged_posts
from namepin.evals.datasets.masks import read_masks
from namepin.evals.datasets.tags import spans_of_tags
from namepin.evals.datasets.voc import read_boxes
from namepin.evals.scoring.agreement import read_annotator
from namepin.tools.errors import NamepinError
from namepin.tools.expansion.chat import usable
from namepin.tools.grounder.qwen_boxes import boxes_in
from namepin.tools.knowledge.chat import parse
from namepin.tools.llm.client import Reply
from namepin.tools.text import clean_text, tweet_tokens
from namepin.tools.types import Mask, token_offsets

_FOLDER = tempfile.TemporaryDirectory(prefix="namepin-fuzz-")
PIXELS = 2**22
"""Masks of more are checked, but not decoded: time goes to the parser."""


def _file(name: str, data: bytes) -> Path:
    path = Path(_FOLDER.name, name)
    path.write_bytes(data)
    return path


def posts(data: bytes) -> None:
    """A file of posts, one JSON object a line."""
    try:
        for post in read_posts(_file("posts.jsonl", data)):
            found = ready(post.model_copy(update={"image": None}), None, 1)
            assert len(found.post.text) == len(post.text), "cleaning moved the characters"
            found.post.model_dump_json().encode()
    except NamepinError:
        pass


def tokens(data: bytes) -> None:
    """The tokeniser, on text as it comes and as it is cleaned."""
    text = data.decode("utf-8", "surrogateescape")
    for one in (text, *_cleaned(text)):
        cut = tweet_tokens(one)
        assert "".join(cut) == "".join(one.split()), "characters were lost"
        assert [one[start:end] for start, end in token_offsets(one, cut)] == list(cut)


def _cleaned(text: str) -> tuple[str, ...]:
    try:
        return (clean_text(text),)
    except NamepinError:
        return ()


def conll(data: bytes) -> None:
    """A data set's text file, with one tag and with two."""
    path = _file("dev.txt", data)
    rows, _ = read_tagged_posts(path, 1)
    for row in rows:
        spans, _ = spans_of_tags(row.columns[0])
        assert all(0 <= first < end <= len(row.tokens) for first, end, _ in spans)
    types = {"PER": "PER", "LOC": "LOC"}
    for fine in (None, {"athlete": "athlete"}):
        read_dataset("fuzz", "dev", path, "none", {}, types, fine=fine)
    read_dataset("fuzz", "dev", path, "none", {}, types, head="none")


def xml(data: bytes) -> None:
    """Pascal VOC boxes."""
    size, boxes, _ = read_boxes(_file("a.xml", data))
    assert size is None or min(size) > 0
    assert all(x1 < x2 and y1 < y2 for found in boxes.values() for x1, y1, x2, y2 in found)


def labelme(data: bytes) -> None:
    """Labelme polygons, and rows with masks."""
    masks, _ = read_masks(_file("a.json", data))
    for found in masks.values():
        for mask in found:
            if mask.size[0] * mask.size[1] <= PIXELS:
                mask.tight_box()
    try:
        read_annotator(_file("rows.jsonl", data))
    except NamepinError:
        pass


def answers(data: bytes) -> None:
    """What a language model may say: an explanation, an expansion, a list of boxes."""
    text = data.decode("utf-8", "replace")
    parse(Reply(text=text))
    usable(Reply(text=text), "Bob Dylan")
    found = boxes_in(text, "thousand", (1000, 1000), (640, 480), 10)
    if found is not None:
        for left, top, right, bottom in found[0]:
            assert 0 <= left < right <= 640 and 0 <= top < bottom <= 480


def profile(data: bytes) -> None:
    """A profile's file."""
    try:
        load_settings(str(_file("mine.toml", data)), environment={}).dump()
    except NamepinError as error:
        str(error).encode("utf-8", "surrogatepass")


def rle(data: bytes) -> None:
    """A mask's run lengths: what is taken is what the picture holds, and comes back the same."""
    if len(data) < 2:
        return
    size = (data[0] or 1, data[1] or 1)
    try:
        mask = Mask.model_validate({"size": size, "counts": data[2:].decode("latin-1")})
    except ValidationError:
        return
    array = mask.to_array()
    assert array.shape == size
    assert np.array_equal(Mask.from_array(array).to_array(), array)


@dataclass(frozen=True)
class Target:
    """A door, and what a fuzzer may begin with."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


_LABELME = (
    b'{"imageHeight": 9, "imageWidth": 9, "shapes": [{"label": "A", "group_id": 1, "shape_type": "rectangle", '
    b'"points": [[0, 0], [4, 4]]}, {"label": "A", "points": [[0, 0], [4, 0], [4, 4]]}, '
    b'{"label": "B", "shape_type": "circle", "points": [[4, 4], [5, 5]]}]}'
)
_XML = (
    b"<annotation><size><width>9</width><height>9</height></size><object><name>A</name>"
    b"<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
)
_ROW = b'{"id": "a", "text": "A b", "entities": [{"start": 0, "end": 1, "masks": [{"size": [1, 2], "counts": "02"}]}]}'
TARGETS: Mapping[str, Target] = {
    "posts": Target(posts, (b'{"id": "a", "text": "A b", "image": null}\n', b'{"tokens": ["A", "b"], "id": "x"}')),
    "tokens": Target(tokens, (b"Don't @a #b https://t.co/x U.S. a-b \xf0\x9f\x98\x80", b"&amp; a@b.com :-)")),
    "conll": Target(conll, (b"IMGID:1\nA\tB-PER\nb\tO\n\n", b"IMGID:1\nA\tB-PER\tB-athlete\nb\tI-PER\tI-athlete\n")),
    "xml": Target(xml, (_XML, b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b'<?xml version="1.0" encoding="x"?><a/>')),
    "labelme": Target(labelme, (_LABELME, _ROW)),
    "answers": Target(
        answers,
        (
            b'{"explanation": "Bob Dylan is a singer."}',
            b'```json\n[{"bbox_2d": [10, 20, 300, 400]}]\n```',
            b"</think>[[1,2,3,4]]",
            b"Bob Dylan, a singer",
        ),
    ),
    "profile": Target(
        profile,
        (
            b'graph = "gem"\n[gate]\ngamma = 0.2\n[tagger]\nbackend = "starter"\n',
            b'[knowledge]\nbackend = "chat"\nmodel = "m"\nbase_url = "http://127.0.0.1:1/v1"\n',
            b"[serve]\nat_once = 4\nprofiles = ['starter']\n[images]\nmax_pixels = 9\n",
        ),
    ),
    "rle": Target(rle, (b"\x01\x0202", b"\x09\x09a2", b"\x05\x0500000000")),
}
