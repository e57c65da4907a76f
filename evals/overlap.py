"""Which posts some weights were trained on, as digests in their manifest, and which scored posts are among them.

A post counts as trained on where its id or its text is in the manifest. Texts are compared without case and blanks, so
that another layout or tokenisation of a data set is recognised. Ids that are numbers may just count the posts of a
file; they are evidence only where some of the texts agree, too.
"""

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from namepin.tools.errors import NamepinError
from namepin.tools.types import Frozen, Post

KEY = "trained_posts"
"""The record's key: in `namepin.json`, and under `training` of a tagger's `config.json`."""

TOLERATED = 0.01
"""Largest share of scored posts that may have been trained on. Twitter-GMNER's train and dev share 2 of 1500 texts."""

_BYTES = 6
_SHORT = 12
"""A text of fewer characters, such as "Good morning", is no evidence."""

_NUMBER = re.compile(r"((train|dev|valid|test)-)?\d+")
"""Ids that may just count the posts of a file, so that equal ids need not mean equal posts."""

_AGREEING = 0.1
"""Numbers are evidence where at least this share of the posts of equal numbers have equal texts."""


class TrainedPosts(Frozen):
    """Digests of the ids and texts of training posts.

    Attributes:
        posts: number of posts.
        ids: base64 of their ids' digests, 6 bytes each, sorted.
        texts: the same of their texts.
    """

    posts: int = Field(ge=0)
    ids: str
    texts: str

    @classmethod
    def of(cls, posts: Iterable[tuple[str, str]]) -> "TrainedPosts":
        """The record of some posts, each an id and a text."""
        ids, texts, count = set[bytes](), set[bytes](), 0
        for post, text in dict.fromkeys(posts):
            count += 1
            ids.add(_digest(post))
            texts |= _text_digests(text)
        return cls(posts=count, ids=_join(ids), texts=_join(texts))

    def together_with(self, other: "TrainedPosts") -> "TrainedPosts":
        """The record of both trainings; a post of both is counted twice."""
        ids, texts = (_split(one) | _split(two) for one, two in ((self.ids, other.ids), (self.texts, other.texts)))
        return TrainedPosts(posts=self.posts + other.posts, ids=_join(ids), texts=_join(texts))

    def among(self, posts: Sequence[Post]) -> list[str]:
        """The ids of the posts that were trained on, in order."""
        ids, texts = _split(self.ids), _split(self.texts)
        same_text = [bool(_text_digests(post.text) & texts) for post in posts]
        same_id = [_digest(post.id) in ids for post in posts]
        numbers = [_NUMBER.fullmatch(post.id) is not None for post in posts]
        counted = [text for text, alike, number in zip(same_text, same_id, numbers, strict=True) if alike and number]
        trusted = sum(counted) >= _AGREEING * len(counted)
        rows = zip(posts, same_text, same_id, numbers, strict=True)
        return [post.id for post, text, alike, number in rows if text or alike and (trusted or not number)]


def _text_digests(text: str) -> set[bytes]:
    normal = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    return {_digest(normal)} if len(normal) >= _SHORT else set()


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()[:_BYTES]


def _join(digests: Iterable[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(digests))).decode()


def _split(joined: str) -> set[bytes]:
    data = base64.b64decode(joined, validate=True)
    return {data[at : at + _BYTES] for at in range(0, len(data), _BYTES)}


def trained_posts(folder: Path) -> tuple[bool, TrainedPosts | None]:
    """Whether Namepin trained the weights of a folder, and the record of their training posts.

    The record is None for weights of an earlier release, which kept none.

    Raises:
        NamepinError: E211 when the manifest is damaged.
    """
    trained = False
    for name, inner in (("namepin.json", ()), ("config.json", ("training",))):
        file = folder / name
        if not file.is_file():
            continue
        try:
            content: Any = json.loads(file.read_bytes())
            for key in inner:
                content = content.get(key) if isinstance(content, dict) else None
            if not isinstance(content, dict) or not content:
                continue  # the config.json of a transformers folder
            trained = True
            if KEY in content:
                return True, TrainedPosts.model_validate(content[KEY])
        except (ValueError, ValidationError) as error:
            raise NamepinError("E211", "the manifest is damaged", where=str(file), mend="copy it again") from error
    return trained, None


@dataclass(frozen=True)
class Overlap:
    """The scored posts that a run's weights were trained on.

    Attributes:
        posts: number of scored posts.
        seen: weights -> ids of the scored posts that they were trained on; weights without one are left out.
        unknown: weights that Namepin trained without keeping a record.
    """

    posts: int
    seen: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unknown: Sequence[str] = ()

    @classmethod
    def of(cls, weights: Mapping[str, Path], posts: Sequence[Post]) -> "Overlap":
        """The overlap of posts with the training posts of some weights, each a name with its folder."""
        seen, unknown = dict[str, Sequence[str]](), list[str]()
        for name, folder in weights.items():
            trained, record = trained_posts(folder)
            if record:
                seen[name] = record.among(posts)
            elif trained:
                unknown.append(name)
        return cls(len(posts), {name: ids for name, ids in seen.items() if ids}, unknown)

    @property
    def count(self) -> int:
        """Number of scored posts that any of the weights was trained on."""
        return len({post for ids in self.seen.values() for post in ids})

    @property
    def count_if_recorded(self) -> int | None:
        """As `count`; None where a record is missing and no overlap was found."""
        return self.count or (None if self.unknown else 0)

    @property
    def excessive(self) -> bool:
        """Whether more posts were trained on than two splits of a data set share by chance."""
        return self.count > TOLERATED * self.posts

    @property
    def mark(self) -> str:
        """The words that mark a figure; empty where it needs none."""
        return f"TRAINED ON {self.count} OF THESE {self.posts} POSTS" if self.excessive else ""

    def require_small(self, where: str) -> None:
        """Refuse to score posts that the weights were trained on.

        Raises:
            NamepinError: E141.
        """
        if not self.excessive:
            return
        name, ids = max(self.seen.items(), key=lambda pair: len(pair[1]))
        what = f"{name} was trained on {len(ids)} of these {self.posts} posts, such as {ids[0]!r}"
        mend = "score another split, or add --allow-overlap: every figure is then marked"
        raise NamepinError("E141", what, where=where, mend=mend)

    @property
    def warning(self) -> str:
        """A line about weights whose training posts are unknown; empty without any."""
        if not self.unknown:
            return ""
        return f"W136: {', '.join(self.unknown)}: no record of the training posts, so overlap was not checked"
