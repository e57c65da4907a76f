"""CoNLL text: one token per line with its tags, a blank line between posts, and `IMGID:` before each post."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost, Problem
from namepin.evals.datasets.lines import foreign_form, numbered_lines
from namepin.evals.datasets.tags import as_bio, is_tag, scheme_of, spans_of_tags
from namepin.evals.datasets.voc import with_boxes
from namepin.tools.errors import NamepinError
from namepin.tools.files import file_of
from namepin.tools.labels import FINE_TO_COARSE8
from namepin.tools.types import Post, token_offsets

Head = Literal["needed", "optional", "none"]
"""Whether `IMGID:` lines name the posts; posts without one are numbered `STEM-1`, `STEM-2`, ..."""

_HEAD, _START = "IMGID:", "-DOCSTART-"


@dataclass(frozen=True, slots=True)
class TaggedPost:
    """One post of a file: `columns[k]` holds the k-th tag of every token; `line` is the first token's line number."""

    id: str
    line: int
    tokens: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a file's token lines.

    Attributes:
        tabs: whether a tab separates columns; else blanks do.
        columns: number of columns of a token line. The first is the token, the last ones are the tags.
        tags: number of tags per token.
        heads: whether the file has `IMGID:` lines.
    """

    tabs: bool
    columns: int
    tags: int
    heads: bool = False

    def split(self, line: str) -> list[str]:
        """The line's columns."""
        return line.split("\t") if self.tabs else line.split()

    def token(self, line: str) -> tuple[str, tuple[str, ...]] | None:
        """The line's token and its tags; None for a line of another form. Empty columns at the end are ignored."""
        columns = self.split(line)
        while len(columns) > self.columns and not columns[-1].strip():
            columns.pop()
        if len(columns) != self.columns or not columns[0]:
            return None
        return columns[0], tuple(tag.strip() for tag in columns[-self.tags :])

    def is_head(self, line: str) -> bool:
        """Whether the line is an `IMGID:` line, not a token that begins like one."""
        if not line.startswith(_HEAD):
            return False
        found = self.token(line) if self.tabs else None
        return found is None or not all(map(is_tag, found[1]))


def split_file(root: Path, *candidates: str) -> Path:
    """The first of these files that exists.

    Raises:
        NamepinError: E130 when there is none.
    """
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    if not root.is_dir():
        raise NamepinError("E130", f"data set folder {str(root)!r} does not exist", mend="check --root")
    raise NamepinError("E130", f"no {' or '.join(candidates)} in {str(root)!r}", mend="check --root and --split")


def read_tagged_posts(path: Path, tag_columns: int, *, head: Head = "needed") -> tuple[list[TaggedPost], list[Problem]]:
    """Every post of a file, and its malformed lines; arguments as `stream_tagged_posts`."""
    posts: list[TaggedPost] = []
    problems: list[Problem] = []
    for found in stream_tagged_posts(path, tag_columns, head=head):
        if isinstance(found, TaggedPost):
            posts.append(found)
        else:
            problems.append(found)
    return posts, problems


def layout_of(path: Path, tag_columns: int) -> Layout:
    """The layout of most of a file's lines.

    Further columns (CoNLL-2003 has parts of speech) are accepted only if the last ones hold tags.
    """
    published = Layout(True, 1 + tag_columns, tag_columns)
    heads, lines = False, []
    for _, line in numbered_lines(path):
        if line and published.is_head(line):
            heads = True
        elif line and line.strip() and not line.startswith(_START):
            lines.append(line)
        if len(lines) == _LOOK_AHEAD:
            break
    tabs = 2 * sum("\t" in line for line in lines) >= len(lines)
    rows = [Layout(tabs, 0, tag_columns).split(line) for line in lines]
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    tags = [tag for row in rows if len(row) == width for tag in row[-tag_columns:]]
    if width > tag_columns and (width == published.columns or sum(map(is_tag, tags)) >= 0.99 * len(tags)):
        return Layout(tabs, width, tag_columns, heads)
    return replace(published, heads=heads)


_LOOK_AHEAD = 5000
"""Number of token lines that determine a file's layout."""


def stream_tagged_posts(path: Path, tag_columns: int, *, head: Head = "needed") -> Iterator[TaggedPost | Problem]:
    """Yield the posts of a file and its malformed lines. Only one post is in memory at a time.

    Args:
        path: a UTF-8 file.
        tag_columns: number of tags per token.
        head: whether `IMGID:` lines name the posts.
    """
    if form := foreign_form(path):
        yield Problem("E131", str(path), form, fatal=True)
        return
    layout = layout_of(path, tag_columns)
    post_id, tokens, tags, first, count = "", list[str](), list[tuple[str, ...]](), 0, 0

    def closed() -> Iterator[TaggedPost]:
        nonlocal count, post_id
        if tokens:
            count += 1
            yield TaggedPost(post_id or f"{path.stem}-{count}", first, tuple(tokens), tuple(zip(*tags, strict=True)))
            tokens.clear()
            tags.clear()
            post_id = post_id if head == "needed" else ""

    def bad(line: int, what: str) -> Problem:
        return Problem("E131", f"{path}:{line}", what, fatal=True)

    for number, line in numbered_lines(path):
        found = layout.token(line or "")
        if line is None:
            yield bad(number, "the line is not UTF-8")
        elif head != "none" and layout.is_head(line):
            yield from closed()
            post_id = line.removeprefix(_HEAD).strip()
            if not post_id:
                yield bad(number, "IMGID without an id")
        elif not line.strip() or (head != "needed" and line.startswith(_START)):
            yield from closed()
        elif head == "needed" and not layout.heads:
            yield bad(number, "no IMGID line names the posts; plain CoNLL is read with --dataset conll")
            return
        elif found is None and head != "needed" and line.startswith("\t") and line.strip() == "O":
            yield Problem("W134", f"{path}:{number}", "the line has no token and the tag O; it is skipped")
        elif found is None:
            columns = f", in {layout.columns} columns" if layout.columns > 1 + tag_columns else ""
            yield bad(number, f"expected a token and {tag_columns} tag(s) parted by tabs{columns}, found {line!r}")
        elif head == "needed" and not post_id:
            yield bad(number, "a token before the first IMGID line")
        else:
            first = first if tokens else number
            tokens.append(found[0])
            tags.append(found[1])
    yield from closed()


def stream_posts(
    path: Path, tag_columns: int = 1, *, head: Head = "needed", images: Path | None = None
) -> Iterator[tuple[str, Post]]:
    """Yield the posts of a file without gold, each with its place, for a batch.

    Args:
        path: see `stream_tagged_posts`.
        tag_columns: see `stream_tagged_posts`.
        head: see `stream_tagged_posts`.
        images: folder of `ID.jpg`; ignored where it does not exist.

    Raises:
        NamepinError: E131 at the first malformed line or post.
    """
    images = images if images and images.is_dir() else None
    for tagged in stream_tagged_posts(path, tag_columns, head=head):
        found = _post(tagged, path, images) if isinstance(tagged, TaggedPost) else tagged
        if isinstance(found, Problem):
            raise NamepinError(found.code, found.what, where=found.where, mend="fix the file")
        assert isinstance(tagged, TaggedPost)
        yield f"{path}:{tagged.line}", found


def _post(tagged: TaggedPost, path: Path, images: Path | None) -> Post | Problem:
    """The post; its picture where there is a folder of them."""
    image = str(file_of(images, tagged.id.removesuffix(".jpg"), ".jpg")) if images else None
    try:
        return Post(id=tagged.id, text=" ".join(tagged.tokens), tokens=tagged.tokens, image=image)
    except ValidationError as error:
        what = f"post {tagged.id!r}: {error.errors()[0]['msg']}"
        return Problem("E131", f"{path}:{tagged.line}", what, fatal=True)


def read_dataset(
    name: str,
    split: str,
    path: Path,
    release: str,
    known: Mapping[str, str],
    labels: Mapping[str, str],
    *,
    scheme: str = "gmner4",
    fine: Mapping[str, str] | None = None,
    head: Head = "needed",
    images: Path | None = None,
    xml: Path | None = None,
) -> Dataset:
    """One split of a CoNLL release.

    Args:
        name: its name for `--dataset`.
        split: the split's name as given by the user.
        path: the text file.
        release: the release's name, used where the file is not in `known`.
        known: sha256 of a published file -> its release and split.
        labels: the release's spelling of a type -> ours, in any case; another type is a fatal problem.
        scheme: the scheme of our types.
        fine: the same for FMNERG's fine types; their tags are then a second column.
        head: whether `IMGID:` lines name the posts.
        images: folder of `ID.jpg`; ignored where it does not exist.
        xml: folder of `ID.xml` boxes; ignored where it does not exist.
    """
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    found, problems = read_tagged_posts(path, 2 if fine else 1, head=head)
    images = images if images and images.is_dir() else None
    xml = xml if xml and xml.is_dir() else None
    tags = scheme_of(tagged.columns[0] for tagged in found)
    if tags != "BIO":
        problems.append(Problem("W131", str(path), f"the tags are {tags}; they are read as seqeval reads them"))
    reader = _EntityReader(str(path), _fold(labels), _fold(fine) if fine is not None else None, tags == "IOB1")
    posts, complaints = _gold_posts(found, path, reader, images, xml)
    problems += complaints
    return Dataset(
        name=name,
        split=split,
        scheme=scheme,
        release=known.get(sha256, f"{release} {split}" + " (release unknown)" * bool(known)),
        sha256=sha256,
        posts=tuple(posts.values()),
        problems=tuple(problems),
        has_boxes=xml is not None,
        has_fine=fine is not None,
        has_images=images is not None,
    )


def _gold_posts(
    found: Sequence[TaggedPost], path: Path, reader: "_EntityReader", images: Path | None, xml: Path | None
) -> tuple[dict[str, GoldPost], list[Problem]]:
    """The posts of a file by id, and their problems; a post with a fatal problem is left out."""
    posts: dict[str, GoldPost] = {}
    problems: list[Problem] = []
    for tagged in found:
        where = f"{path}:{tagged.line}"
        if tagged.id in posts:
            problems.append(Problem("E131", where, f"post id {tagged.id!r} occurs twice", fatal=True))
            continue
        post = _post(tagged, path, images)
        if isinstance(post, Problem):
            problems.append(post)
            continue
        entities, complaints = reader.entities(tagged)
        gold = GoldPost(post, entities, where=where)
        problems += complaints
        if xml:
            gold, complaints = with_boxes(gold, xml)
            problems += complaints
        if post.image and not Path(post.image).is_file():
            problems.append(Problem("W130", where, f"picture {post.image} is missing"))
        posts[tagged.id] = gold
    return posts, problems


def _fold(names: Mapping[str, str]) -> dict[str, str]:
    """The mapping, with each name also in lower case."""
    return {name.lower(): label for name, label in names.items()} | dict(names)


@dataclass(frozen=True)
class _EntityReader:
    """Reads the mentions of posts, without boxes and masks.

    Attributes:
        file: the text file's name.
        labels: spellings of coarse types, each also in lower case.
        fine: the same for fine types; None without a column of them.
        plain_i: whether a mention may begin with I (IOB1).
    """

    file: str
    labels: Mapping[str, str]
    fine: Mapping[str, str] | None
    plain_i: bool

    def entities(self, tagged: TaggedPost) -> tuple[tuple[GoldEntity, ...], list[Problem]]:
        problems: list[Problem] = []

        def problem(token: int, what: str, fatal: bool = False, loses: Literal["", "type"] = "") -> None:
            problems.append(Problem("E132", f"{self.file}:{tagged.line + token}", what, fatal, loses))

        tags = tagged.columns[0]
        spans, broken = spans_of_tags(tags)
        for i in broken:
            if not is_tag(tags[i]):
                problem(i, f"{tags[i]!r} is not O, B-TYPE or I-TYPE, nor a tag of BIOES, BILOU or BMES", True, "type")
            elif not (self.plain_i and tags[i][0] in "Ii"):
                problem(i, f"broken BIO: {tags[i]!r} follows {tags[i - 1] if i else 'the start'!r}")
        for i, tag in enumerate(tagged.columns[1] if self.fine is not None else ()):
            if tag != "O" and tags[i] == "O":
                problem(i, f"fine tag {tag!r} where the coarse one is 'O'; it is not read")
        text = " ".join(tagged.tokens)
        offsets = token_offsets(text, tagged.tokens)
        entities = []
        for first, end, name in spans:
            label, fine_label = self.labels.get(name) or self.labels.get(name.lower()), None
            if label is None:
                problem(first, f"type {name!r} is not in the scheme", fatal=True)
                continue
            if self.fine is not None:
                fine_label, complaint = _fine_label(tagged.columns[1][first:end], label, self.fine)
                if complaint:
                    problem(first, complaint, loses="" if fine_label else "type")
            span = (offsets[first][0], offsets[end - 1][1])
            entities.append(GoldEntity(text[slice(*span)], span, (first, end), label, fine_label))
        return tuple(entities), problems


def _fine_label(tags: Sequence[str], coarse: str, fine: Mapping[str, str]) -> tuple[str | None, str]:
    """The fine type of a coarse mention, read at its first token, and the problems of the fine column there."""
    name = tags[0].partition("-")[2]
    label = fine.get(name) or fine.get(name.lower())
    if label is None:
        return None, f"fine type {name!r} is not in the scheme; the mention has no fine type"
    if [as_bio(tag) for tag in tags] != [f"B-{name}"] + [f"I-{name}"] * (len(tags) - 1):
        return label, f"the fine tags {' '.join(tags)} do not follow the coarse ones; read at the first"
    if FINE_TO_COARSE8[label] != coarse:
        return label, f"fine type {label!r} does not belong to {coarse!r}"
    return label, ""


def read_ids(path: Path) -> set[str]:
    """The post ids of a `--ids` file, one per line.

    Raises:
        NamepinError: E130 when it cannot be read or is empty.
    """
    try:
        if form := foreign_form(path):
            raise NamepinError("E130", form, where=str(path))
        ids = {line.strip() for line in path.read_text("utf-8-sig").split("\n")} - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise NamepinError("E130", f"cannot read the list of ids: {error}", where=str(path)) from error
    if not ids:
        raise NamepinError("E130", "the list of ids is empty", where=str(path))
    return ids
