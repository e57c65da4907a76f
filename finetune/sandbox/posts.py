"""A post: its names, its text, its picture, an LLM's knowledge of the names, and a captioner's caption.

About half of the sentences reveal a type; the others need the knowledge or the picture. The knowledge covers four of
five names and is sometimes wrong. It describes the looks of the named things, whether or not they are in the picture.
Some things in a picture have no name. A few of them are of a named thing's kind and differ only in their looks.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from namepin.finetune.sandbox.drawing import FINER, Frame, background, draw, lay_thing, shape_of
from namepin.finetune.sandbox.kinds import COLOURS, HAIR, KINDS, NEUTRAL, USUAL_COLOUR, Kind, Thing
from namepin.tools.geometry import Region

SHOWN = 0.39
"""How often a named thing is in the picture."""

TELLING = 0.5
"""Share of the sentences that reveal a name's type."""

KNOWN, WRONG = 0.8, 0.04
"""How often the knowledge has a name, and how often it then has a wrong type."""

SMALL = 0.17
"""How often a thing is drawn so small that it covers less than 1/50 of the picture."""

TWIN = 0.3
"""How often a post's picture also holds a nameless thing of a named one's kind, in other colours."""

USUAL = 0.7
"""How often a thing that is not a twin has the usual colour of its type; otherwise any colour."""

SIGNED = 0.25
"""How often a named thing, except a person, has its name written on it."""

SHARED = 0.12
"""How often a thing has the name of a person of the same split."""


@dataclass(frozen=True)
class SentenceName:
    """A name in a post."""

    tokens: tuple[str, ...]
    thing: Thing
    start: int
    """Index of its first token."""

    known: Kind | None
    """The kind that the knowledge gives it."""

    @property
    def text(self) -> str:
        """Its tokens joined by one space."""
        return " ".join(self.tokens)


@dataclass
class DrawnThing:
    """A thing in a picture; `name` is the index of its `SentenceName`, None for a thing without a name."""

    thing: Thing
    name: int | None
    region: Region

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight box of the region, right and bottom exclusive."""
        rows, columns = np.flatnonzero(self.region.any(1)), np.flatnonzero(self.region.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass
class SandboxPost:
    """A whole post."""

    id: str
    tokens: list[str]
    names: list[SentenceName]
    picture: Image.Image
    drawn: list[DrawnThing] = field(default_factory=list)

    @property
    def knowledge(self) -> str:
        """Knowledge in the recorded style: the list of names with their types, then their looks."""
        known = [(name, name.known) for name in self.names if name.known]
        if not known:
            return "Named entities: none that I know. Reasoning: the names in the sentence are unknown to me."
        rows = " ".join(f"{at}. {name.text} ({kind.coarse8}/{kind.fine})" for at, (name, kind) in enumerate(known, 1))
        looks = " ".join(f"{name.text} is {name.thing.description}." for name, _ in known)
        return f"Named entities: {rows} Reasoning: {looks}"

    def caption(self, colours: bool) -> str:
        """A caption: the things in the picture, from left to right."""
        order = sorted(self.drawn, key=lambda one: one.box[0])
        descriptions = [one.thing.description if colours else one.thing.short for one in order]
        return " and ".join(descriptions) if descriptions else "an empty background"


def posts(split: str, count: int, words: list[str], seed: int) -> Iterator[SandboxPost]:
    """`count` posts of a split. The split's words and (seed, split, number) alone decide each post."""
    for number in range(count):
        rng = random.Random(f"{seed}/{split}/{number}")
        names, tokens = _sentence(rng, words)
        post = SandboxPost(f"{split}-{number:05}", tokens, names, background(_size(rng), rng))
        _show(post, rng)
        yield post


def _size(rng: random.Random) -> tuple[int, int]:
    return rng.choice([(128, 128), (144, 112), (112, 144), (160, 128)])


def _sentence(rng: random.Random, words: list[str]) -> tuple[list[SentenceName], list[str]]:
    tokens = ["RT", f"@{rng.choice(words).lower()}", ":"] if rng.random() < 0.2 else []
    names: list[SentenceName] = []
    kinds = rng.sample(KINDS, rng.choices((1, 2, 3, 4), (0.35, 0.35, 0.2, 0.1))[0])
    for at, kind in enumerate(kinds):
        if at:
            tokens.append(rng.choice((".", ",", "and", "!")))
        name = _name(kind, words, rng, {word for other in names for word in other.tokens})
        frame = rng.choice(kind.says if rng.random() < TELLING else NEUTRAL).split()
        place = frame.index("{}")
        known = None
        if rng.random() < KNOWN:
            known = rng.choice(KINDS) if rng.random() < WRONG else kind
        signed = not kind.is_person and rng.random() < SIGNED
        thing = replace(_thing(kind, rng), sign=name[0] if signed else None)
        names.append(SentenceName(name, thing, len(tokens) + place, known))
        tokens += [*frame[:place], *name, *frame[place + 1 :]]
    if rng.random() < 0.3:
        tokens.append(f"#{rng.choice(('wow', 'news', 'love', 'live', 'today'))}")
    return names, tokens


def _name(kind: Kind, words: list[str], rng: random.Random, used: set[str]) -> tuple[str, ...]:
    free = [word for word in rng.sample(words, 8) if word not in used]
    if kind.is_person:
        return tuple(free[:2]) if rng.random() < 0.7 else (free[0],)
    # The first words of a split are sometimes last names, so that a brand and an athlete may share one.
    first = rng.choice(words[:40]) if rng.random() < SHARED else free[0]
    first = first if first not in used else free[1]
    return (first, kind.tail) if kind.tail and rng.random() < 0.3 else (first,)


def _thing(kind: Kind, rng: random.Random) -> Thing:
    colour = USUAL_COLOUR[kind.fine] if rng.random() < USUAL else rng.choice(list(COLOURS))
    return Thing(kind, colour, rng.choice(list(HAIR)) if kind.is_person else None)


def _show(post: SandboxPost, rng: random.Random) -> None:
    """Draw the picture's things: some of the names, perhaps a twin of one of them, and things without a name."""
    wanted: list[tuple[Thing, int | None]] = [
        (name.thing, at) for at, name in enumerate(post.names) if rng.random() < SHOWN
    ]
    if rng.random() < TWIN:
        wanted.append((_twin(rng.choice(post.names).thing, rng), None))
    elsewhere = [kind for kind in KINDS if kind not in {name.thing.kind for name in post.names}]
    wanted += [(_thing(kind, rng), None) for kind in rng.sample(elsewhere, rng.choice((0, 1, 1, 2)))]
    if not wanted:
        wanted.append((_thing(rng.choice(elsewhere), rng), None))
    rng.shuffle(wanted)
    frames: list[Frame] = []
    for thing, name in wanted:
        frame = _place(post.picture.size, shape_of(thing), frames, rng)
        if frame is None:
            continue  # the picture is full, so the thing is left out
        frames.append(frame)
        width, height = post.picture.size
        sheet = Image.new("RGBA", (width * FINER, height * FINER), (0, 0, 0, 0))
        draw(sheet, thing, frame, rng)
        post.picture, region = lay_thing(post.picture, sheet)
        for other in post.drawn:
            other.region = other.region & ~region
        post.drawn.append(DrawnThing(thing, name, region))


def _twin(thing: Thing, rng: random.Random) -> Thing:
    """A thing of the same kind in another colour."""
    other = rng.choice([colour for colour in COLOURS if colour != thing.colour])
    return Thing(thing.kind, other, rng.choice(list(HAIR)) if thing.hair else None)


def _place(size: tuple[int, int], shape: float, used: list[Frame], rng: random.Random) -> Frame | None:
    """A frame of the shape (width over height) that touches no other frame; None if none was found."""
    width, height = size
    for _ in range(40):
        area = rng.uniform(0.010, 0.018) if rng.random() < SMALL else rng.uniform(0.06, 0.22)
        high = (area * width * height / shape) ** 0.5
        wide = high * shape
        if wide > 0.95 * width or high > 0.95 * height:
            continue
        left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
        frame = (round(left), round(top), round(left + wide), round(top + high))
        if all(_apart(frame, other) for other in used):
            return frame
    return None


def _apart(one: Frame, other: Frame) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
