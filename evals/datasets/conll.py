"""The field's text format: one token a line with its BIO tags, a blank line between posts, `IMGID:` before each."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost, Problem
from namepin.evals.datasets.voc import with_boxes
from namepin.tools.errors import NamepinError
from namepin.tools.labels import FINE_TO_COARSE8
from namepin.tools.types import Post, token_offsets


@dataclass(frozen=True, slots=True)
class Row:
    """One post as the file has it: `columns[k]` holds the k-th tag of every token; `line` is the first token's."""

    id: str
    line: int
    tokens: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]


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


def read_rows(path: Path, tag_columns: int, *, headed: bool = True) -> tuple[list[Row], list[Problem]]:
    """Every post of a file, and its malformed lines; arguments as `stream_rows`."""
    rows: list[Row] = []
    problems: list[Problem] = []
    for found in stream_rows(path, tag_columns, headed=headed):
        if isinstance(found, Row):
            rows.append(found)
        else:
            problems.append(found)
    return rows, problems


def stream_rows(path: Path, tag_columns: int, *, headed: bool = True) -> Iterator[Row | Problem]:
    """The posts of a file and its malformed lines as they come; no more than one post is held.

    Args:
        path: a UTF-8 file.
        tag_columns: how many tags follow each token.
        headed: whether `IMGID:` lines name the posts; without them, posts are numbered `STEM-1`, `STEM-2`, ...
    """
    post_id, tokens, tags, first, count = "", list[str](), list[tuple[str, ...]](), 0, 0

    def closed() -> Iterator[Row]:
        nonlocal count
        if tokens:
            count += 1
            name = post_id if headed else f"{path.stem}-{count}"
            yield Row(name, first, tuple(tokens), tuple(zip(*tags, strict=True)))
            tokens.clear()
            tags.clear()

    def bad(line: int, what: str) -> Problem:
        return Problem("E131", f"{path}:{line}", what, fatal=True)

    for number, line in _lines(path):
        if line is None:
            yield bad(number, "the line is not UTF-8")
        elif headed and line.startswith("IMGID:"):
            yield from closed()
            post_id = line.removeprefix("IMGID:").strip()
            if not post_id:
                yield bad(number, "IMGID without an id")
        elif not line.strip():
            yield from closed()
        else:
            token, *labels = line.split("\t")
            if len(labels) != tag_columns or not token:
                yield bad(number, f"expected a token and {tag_columns} tag(s) parted by tabs, found {line!r}")
            elif headed and not post_id:
                yield bad(number, "a token before the first IMGID line")
            else:
                first = first if tokens else number
                tokens.append(token)
                tags.append(tuple(label.strip() for label in labels))
    yield from closed()


def _lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Numbered lines, None for one that is not UTF-8; only a line feed ends one: tokens may hold Unicode's others."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            try:
                yield number, raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError:
                yield number, None


def stream_posts(
    path: Path, tag_columns: int = 1, *, headed: bool = True, images: Path | None = None
) -> Iterator[tuple[str, Post]]:
    """The posts of a file without their gold, each with its place, one after the other: a batch needs no more.

    Args:
        path: as `stream_rows`.
        tag_columns: likewise.
        headed: likewise.
        images: folder of `ID.jpg`; ignored where it does not exist.

    Raises:
        NamepinError: E131 at the first malformed line or post.
    """
    images = images if images and images.is_dir() else None
    for row in stream_rows(path, tag_columns, headed=headed):
        found = _post(row, path, images) if isinstance(row, Row) else row
        if isinstance(found, Problem):
            raise NamepinError(found.code, found.what, where=found.where, mend="mend the file")
        assert isinstance(row, Row)
        yield f"{path}:{row.line}", found


def _post(row: Row, path: Path, images: Path | None) -> Post | Problem:
    """The row's post; its picture where there is a folder of them."""
    image = str(images / f"{row.id.removesuffix('.jpg')}.jpg") if images else None
    try:
        return Post(id=row.id, text=" ".join(row.tokens), tokens=row.tokens, image=image)
    except ValidationError as error:
        return Problem("E131", f"{path}:{row.line}", f"post {row.id!r}: {error.errors()[0]['msg']}", fatal=True)


def bio_spans(tags: Sequence[str]) -> tuple[list[tuple[int, int, str]], list[int]]:
    """The mentions of a BIO sequence as (first, end, type), and the positions of broken tags.

    As seqeval reads it: an I- that does not continue its own type opens a mention. Such a tag is broken, and so is
    one that is neither O, B-type nor I-type (it is read as O).
    """
    spans: list[tuple[int, int, str]] = []
    broken = []
    before: str | None = None
    for i, tag in enumerate(tags):
        kind, _, label = tag.partition("-")
        if tag == "O" or kind not in ("B", "I") or not label:
            if tag != "O":
                broken.append(i)
            before = None  # and not "O", which a broken file may have for a type
            continue
        if kind == "I" and before == label:
            spans[-1] = (spans[-1][0], i + 1, label)
        else:
            if kind == "I":
                broken.append(i)
            spans.append((i, i + 1, label))
        before = label
    return spans, broken


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
    headed: bool = True,
    images: Path | None = None,
    xml: Path | None = None,
) -> Dataset:
    """One split of a CoNLL release.

    Args:
        name: what `--dataset` calls it.
        split: as the user named it.
        path: the text file.
        release: the release's name, used where the file is none of the `known` ones.
        known: sha256 of a published file -> the release and split it is.
        labels: the release's spelling of a type -> ours; a type that is missing here is a fatal problem.
        scheme: the scheme of our types.
        fine: likewise for FMNERG's fine types, whose tags are then a second column.
        headed: whether `IMGID:` lines name the posts.
        images: folder of `ID.jpg`; ignored where it does not exist.
        xml: folder of `ID.xml` boxes; ignored where it does not exist.
    """
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    rows, problems = read_rows(path, 2 if fine else 1, headed=headed)
    images = images if images and images.is_dir() else None
    xml = xml if xml and xml.is_dir() else None
    posts: dict[str, GoldPost] = {}
    for row in rows:
        where = f"{path}:{row.line}"
        if row.id in posts:
            problems.append(Problem("E131", where, f"post id {row.id!r} occurs twice", fatal=True))
            continue
        post = _post(row, path, images)
        if isinstance(post, Problem):
            problems.append(post)
            continue
        entities, found = _entities(row, str(path), labels, fine)
        gold = GoldPost(post, entities, where=where)
        problems += found
        if xml:
            gold, found = with_boxes(gold, xml)
            problems += found
        if post.image and not Path(post.image).is_file():
            problems.append(Problem("W130", where, f"picture {post.image} is missing"))
        posts[row.id] = gold
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


def _entities(
    row: Row, file: str, labels: Mapping[str, str], fine: Mapping[str, str] | None
) -> tuple[tuple[GoldEntity, ...], list[Problem]]:
    """The mentions of a post, without their visual half."""
    problems: list[Problem] = []

    def problem(token: int, what: str, fatal: bool = False, loses: Literal["", "type"] = "") -> None:
        problems.append(Problem("E132", f"{file}:{row.line + token}", what, fatal, loses))

    spans, broken = bio_spans(row.columns[0])
    for i in broken:
        what = f"broken BIO: {row.columns[0][i]!r} follows {row.columns[0][i - 1] if i else 'the start'!r}"
        problem(i, what, loses="" if row.columns[0][i].startswith("I-") else "type")
    for i, tag in enumerate(row.columns[1] if fine is not None else ()):
        if tag != "O" and row.columns[0][i] == "O":
            problem(i, f"fine tag {tag!r} where the coarse one is 'O'; it is not read")
    text = " ".join(row.tokens)
    offsets = token_offsets(text, row.tokens)
    entities = []
    for first, end, name in spans:
        label, fine_label = labels.get(name), None
        if label is None:
            problem(first, f"type {name!r} is not in the scheme", fatal=True)
            continue
        if fine is not None:
            fine_label, complaint = _fine_label(row.columns[1][first:end], label, fine)
            if complaint:
                problem(first, complaint, loses="" if fine_label else "type")
        span = (offsets[first][0], offsets[end - 1][1])
        entities.append(GoldEntity(text[slice(*span)], span, (first, end), label, fine_label))
    return tuple(entities), problems


def _fine_label(tags: Sequence[str], coarse: str, fine: Mapping[str, str]) -> tuple[str | None, str]:
    """The fine type of a coarse mention, read at its first token, and what is wrong with the fine column there."""
    name = tags[0].partition("-")[2]
    label = fine.get(name)
    if label is None:
        return None, f"fine type {name!r} is not in the scheme; the mention has no fine type"
    if list(tags) != [f"B-{name}"] + [f"I-{name}"] * (len(tags) - 1):
        return label, f"the fine tags {' '.join(tags)} do not follow the coarse ones; read at the first"
    if FINE_TO_COARSE8[label] != coarse:
        return label, f"fine type {label!r} does not belong to {coarse!r}"
    return label, ""


def read_ids(path: Path) -> set[str]:
    """The post ids of a `--ids` file, one a line.

    Raises:
        NamepinError: E130 when it cannot be read or is empty.
    """
    try:
        ids = {line.strip() for line in path.read_text("utf-8").split("\n")} - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise NamepinError("E130", f"cannot read the list of ids: {error}", where=str(path)) from error
    if not ids:
        raise NamepinError("E130", "the list of ids is empty", where=str(path))
    return ids
