"""Judge every statement about thirty posts: `python -m namepin.agent.workflows.statements --photos DIR --md FILE`.

The posts are in `examples/statements.jsonl`, with the truth about each name: its coarse and fine type, and whether the
thing, the person, or the printed name is in the picture. Pictures are the examples', drawn signs, and photographs of a
folder `DIR/images`; posts whose photograph is not there are left out. A statement is right, wrong, or openly unknown:
"unsure" of a fine type, "cannot tell" of a place. A name that is not found, or found in other bounds, is wrong.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from namepin.agent.api import Namepin
from namepin.agent.posts import Picture
from namepin.agent.render.fonts import fonts
from namepin.agent.render.view import presence, typing
from namepin.tools.errors import in_one_line
from namepin.tools.files import atomic_write
from namepin.tools.jsonl import read_lines
from namepin.tools.types import Entity, Extraction

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RIGHT, WRONG, UNKNOWN = "right", "wrong", "unknown"
_SIZE = (640, 480)


@dataclass(frozen=True)
class Truth:
    """What a person says of a name."""

    label: str
    fine: str
    in_picture: bool


@dataclass(frozen=True)
class Statement:
    """A statement of the result, and what it is worth.

    Attributes:
        post: the post's id.
        name: the name.
        about: `name` (was it found), `type` or `place`.
        said: the statement as people are shown it.
        verdict: `right`, `wrong` or `unknown`.
    """

    post: str
    name: str
    about: str
    said: str
    verdict: str


def judge(extraction: Extraction, truth: Mapping[str, Truth]) -> Iterator[Statement]:
    """The statements of one result against the truth."""
    found = {entity.text: entity for entity in extraction.entities}
    for name in truth.keys() - found.keys():
        yield Statement(extraction.id, name, "name", "not found", WRONG)
    for name, entity in found.items():
        if name not in truth:
            yield Statement(extraction.id, name, "name", "found", WRONG)
            continue
        yield Statement(extraction.id, name, "type", typing(entity), _type_verdict(entity, truth[name]))
        if extraction.image:
            said = presence(entity) + ", ambiguous" * entity.ambiguous
            yield Statement(extraction.id, name, "place", said, _place_verdict(entity, truth[name]))


def _type_verdict(entity: Entity, truth: Truth) -> str:
    if entity.label != truth.label:
        return WRONG
    if entity.type_uncertain:
        return UNKNOWN
    return RIGHT if entity.fine_label == truth.fine else WRONG


def _place_verdict(entity: Entity, truth: Truth) -> str:
    if entity.groundable is None:
        return UNKNOWN
    return RIGHT if entity.groundable is truth.in_picture else WRONG


def picture_of(name: str, photos: Path | None) -> Picture | None:
    """The picture of `example:FILE`, `photo:ID` or `draw:LINE|LINE`; None for a photograph that is not at hand."""
    kind, _, what = name.partition(":")
    if kind == "example":
        return EXAMPLES / what
    if kind == "draw":
        return _sign(what.split("|"))
    file = photos / "images" / f"{what}.jpg" if photos else None
    return file if file and file.is_file() else None


def _sign(lines: Sequence[str]) -> Image.Image:
    image = Image.new("RGB", _SIZE, "#22324A")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        middle = _SIZE[1] * (number + 1) / (len(lines) + 1)
        draw.text((_SIZE[0] / 2, middle), line, font=fonts(52)[0], fill="#FBFAF8", anchor="mm")
    return image


def statements(pin: Namepin, photos: Path | None = None) -> Iterator[Statement]:
    """All statements about the posts whose pictures are at hand."""
    for line in read_lines(EXAMPLES / "statements.jsonl"):
        row = line.parse_object()
        picture = picture_of(row["picture"], photos)
        if picture is not None:
            truth = {name: Truth(*known) for name, known in row["truth"].items()}
            yield from judge(pin.extract({"id": row["id"], "text": row["text"]}, image=picture), truth)


def table(found: Sequence[Statement]) -> str:
    """The statements as Markdown: how many have which verdict, and a row per name."""
    counts = Counter((one.about, one.verdict) for one in found)
    kinds = [kind for kind in ("name", "type", "place") if any(one.about == kind for one in found)]
    head = ["| statements about | right | wrong | openly unknown |", "| --- | --- | --- | --- |"]
    head += [
        f"| {kind} | " + " | ".join(str(counts[kind, v]) for v in (RIGHT, WRONG, UNKNOWN)) + " |" for kind in kinds
    ]
    names: dict[tuple[str, str], dict[str, str]] = {}
    for one in found:
        cells = names.setdefault((one.post, one.name), {})
        cells[one.about] = f"**{one.said}: {one.verdict}**" if one.verdict == WRONG else f"{one.said}: {one.verdict}"
    rows = ["| post | name | type | in the picture? |", "| --- | --- | --- | --- |"]
    for (post, name), cells in names.items():
        rows.append(f"| {post} | {name} | {cells.get('type', cells.get('name', ''))} | {cells.get('place', '')} |")
    return "\n".join([*head, "", *rows, ""])


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder with images/ID.jpg (COCO)")
    parser.add_argument("--profile", default="starter")
    parser.add_argument("--md", type=Path, help="write the table here instead of printing it")
    args = parser.parse_args(argv)
    text = table(list(statements(Namepin.from_profile(args.profile), args.photos)))
    atomic_write(args.md, text) if args.md else print(text)


if __name__ == "__main__":
    with in_one_line():
        main()
