"""Annotated samples (RiVEG section IV-B1a), as in the PGIM authors' release: one `{"id", "annotation"}` per line.

The release names posts without their texts. A row may have its own `text` and `caption`. Otherwise they are looked up
by id in a data set's folder. Samples without text are skipped.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from namepin.tools.errors import NamepinError
from namepin.tools.files import file_of
from namepin.tools.jsonl import read_placed_rows, read_rows

SPLITS = ("train", "dev", "valid")
"""The splits in which texts are looked up; never a test split."""

Line = Annotated[str, Field(max_length=4000)]


class AnnotatedRow(BaseModel):
    """One line of a file. All of its fields may go into a prompt, so their lengths are bounded."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    id: Annotated[str, Field(min_length=1, max_length=200)]
    annotation: Line
    text: Line | None = None
    caption: Line | None = None

    @field_validator("annotation", "text")
    @classmethod
    def _says_something(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("is blank")
        return text


@dataclass(frozen=True)
class Sample:
    """An annotated post; `image` is its picture's file, where there is one."""

    id: str
    text: str
    caption: str | None
    annotation: str
    image: Path | None = None


@dataclass(frozen=True)
class SampleSources:
    """The files of samples, texts, captions and pictures.

    Attributes:
        samples: the JSONL files.
        data: a data set's folder (`txt/SPLIT.txt` or `SPLIT.txt`, `captions/`), or None.
        captions: the captioner whose captions of the data set are used, as in `captions/blip2-train.jsonl`.
        images: a folder with `ID.jpg`, or None.
    """

    samples: tuple[str, ...]
    data: str | None = None
    captions: str = "blip2"
    images: str | None = None


def read_samples(sources: SampleSources) -> tuple[list[Sample], list[str]]:
    """The samples whose text is known, in the files' order, and the ids of those left out.

    Raises:
        NamepinError: E130 when a file or folder is missing, or no sample has a text; E131 for an id that occurs twice;
            E134 for an invalid row.
    """
    rows = list(_rows(sources.samples))
    texts, captions = _data_set(sources) if sources.data else ({}, {})
    folder = _folder(sources.images, "images") if sources.images else None
    samples, dropped = [], []
    for row in rows:
        text = row.text or texts.get(row.id)
        if text is None:
            dropped.append(row.id)
            continue
        picture = file_of(folder, row.id, ".jpg") if folder else None
        samples.append(
            Sample(
                id=row.id,
                text=text,
                caption=row.caption or captions.get(row.id),
                annotation=row.annotation,
                image=picture if picture and picture.is_file() else None,
            )
        )
    if not samples:
        raise NamepinError(
            "E130", f"none of the {len(rows)} annotated samples has a text", where=", ".join(sources.samples),
            mend="set examples.data to the data set they are from, or give each row its `text`",
        )  # fmt: skip
    return samples, dropped


def annotated_ids(files: tuple[str, ...]) -> frozenset[str]:
    """The ids of all annotated posts, also those without a known text.

    Raises:
        NamepinError: as `read_samples`, on files and rows.
    """
    return frozenset(row.id for row in _rows(files))


def _rows(files: tuple[str, ...]) -> Iterator[AnnotatedRow]:
    seen: dict[str, str] = {}
    for name in files:
        mend = 'a row is {"id", "annotation"}, and may have "text" and "caption"'
        for where, row in read_placed_rows(Path(name), AnnotatedRow.model_validate, "an annotated sample", mend):
            if row.id in seen:
                raise NamepinError(
                    "E131", f"the sample {row.id!r} is annotated twice", where=f"{seen[row.id]} and {where}",
                    mend="keep one of the two rows",
                )  # fmt: skip
            seen[row.id] = where
            yield row


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        what, mend = f"a data set's text is not readable: {error}", "check examples.data"
        raise NamepinError("E130", what, where=str(path), mend=mend) from error


def _folder(name: str, setting: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        raise NamepinError("E130", "no such folder", where=name, mend=f"check examples.{setting}")
    return folder


def _data_set(sources: SampleSources) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Texts and captions of a data set's posts, by id."""
    root = _folder(sources.data or "", "data")
    texts: dict[str, str] = {}
    captions: dict[str, str] = {}
    for split in SPLITS:
        for file in (root / "txt" / f"{split}.txt", root / f"{split}.txt"):
            if file.is_file():
                texts |= _texts(file)
        file = root / "captions" / f"{sources.captions}-{split}.jsonl"
        if file.is_file():
            mend = 'a row is {"id", "caption"}'
            captions |= read_rows(file, lambda row: (str(row["id"]), str(row["caption"])), "a caption", mend)
    return texts, captions


def _texts(file: Path) -> dict[str, str]:
    """Id -> the tokens of each post of a CoNLL file, joined by a space."""
    words: dict[str, list[str]] = {}
    post = ""
    for line in _lines(file):
        if line.startswith("IMGID:"):
            post = line.removeprefix("IMGID:").strip()
        elif "\t" in line and post:
            words.setdefault(post, []).append(line.split("\t")[0].strip())
    return {post: " ".join(found) for post, found in words.items()}
