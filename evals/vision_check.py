"""Measures the starter vision: `python -m namepin.evals.vision_check --data DIR`.

It prints the share of mentions with a box in GMNER's training data (the matcher's prior), the three open posts against
their gold boxes, and the time and memory on this machine. It also prints the detection rate of a pasted portrait by
size, tilt, light and blur (synthetic). With `--faces DIR`, it prints only the number of photographs in a folder in
which a person is found.
"""

import argparse
import io
import json
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from namepin.evals import drawn_words, photographs
from namepin.evals.datasets import gmner
from namepin.tools.geometry import Rectangle, box_iou
from namepin.tools.images.load import LoadedImage, load_image
from namepin.tools.interfaces import MatchRequest, Query, SegmentPrompt, SegmentRequest, TraceQuery, TraceRequest
from namepin.tools.matcher.config import MatcherConfig
from namepin.tools.matcher.starter import StarterMatcher
from namepin.tools.media import Media
from namepin.tools.segmenter.config import SegmenterConfig
from namepin.tools.segmenter.grabcut import GrabCutSegmenter
from namepin.tools.tracer.config import TracerConfig
from namepin.tools.tracer.region import RegionTracer
from namepin.tools.types import Box, Mask, Point
from namepin.tools.vision.config import PeopleConfig
from namepin.tools.vision.faces import PeopleFinder

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

POSTS: tuple[tuple[str, tuple[tuple[str, str, tuple[Box, ...]], ...]], ...] = (
    ("1953977", (("Angelina Jolie", "PER", ((14, 2, 285, 300), (298, 18, 574, 300))),)),
    ("O_2371", (("Angelina Jolie", "PER", ((296, 24, 600, 450),)), ("Donald Trump", "PER", ()))),
    ("111254", (("Federation Business Data Lake", "OTHER", ((17, 36, 507, 316),)),)),
)
"""The open posts: picture, and its mentions with their gold boxes."""

FACE: Box = (173, 65, 275, 167)
"""The face in examples/astronaut.jpg."""


@dataclass(frozen=True)
class PinnedMention:
    """A mention after matcher, tracer and segmenter; `groundable` at the graph's default threshold of 0.5."""

    name: str
    score: float
    groundable: bool
    ambiguous: bool
    evidence: str | None
    peak: Point | None = None
    box: Box | None = None
    mask: Mask | None = None


def pin(picture: LoadedImage, names: Iterable[tuple[str, str]], *, threshold: float = 0.5) -> list[PinnedMention]:
    """Run the starter's three visual tools on `(name, label)` pairs, as the graph does."""
    media = Media(images={picture.ref.sha256: picture.image})
    queries = tuple(Query(text=name, label=label, category=label) for name, label in names)
    request = MatchRequest(image=picture.ref, text=" ".join(q.text for q in queries), queries=queries)
    matches = StarterMatcher(MatcherConfig()).run([request], media)[0].matches
    seen = [i for i, match in enumerate(matches) if match.can_tell and match.score >= threshold]
    to_trace = tuple(TraceQuery(query=queries[i], region=matches[i].region, kind=matches[i].kind) for i in seen)
    traced = RegionTracer(TracerConfig()).run([TraceRequest(image=picture.ref, queries=to_trace)], media)[0].traces
    prompts = tuple(
        SegmentPrompt(query=q.query, peak=trace.peak, box=q.region, kind=q.kind)
        for q, trace in zip(to_trace, traced, strict=True)
    )
    segmenter = GrabCutSegmenter(SegmenterConfig())
    segments = segmenter.run([SegmentRequest(image=picture.ref, prompts=prompts)], media)[0].segments
    shown = dict(zip(seen, zip(traced, segments, strict=True), strict=True))
    return [
        PinnedMention(
            query.text, match.score, True, match.ambiguous, match.evidence, where[0].peak, where[1].box, where[1].mask
        )
        if (where := shown.get(i))
        else PinnedMention(query.text, match.score, False, match.ambiguous, match.evidence)
        for i, (query, match) in enumerate(zip(queries, matches, strict=True))
    ]


def priors(data: Path) -> Iterator[str]:
    """Share of mentions with a box, by type, in the training split."""
    mentions, boxed = Counter[str](), Counter[str]()
    for post in gmner.read(data / "gmner", "train").posts:
        for entity in post.entities:
            mentions[entity.label] += 1
            boxed[entity.label] += bool(entity.boxes)
    for label, number in sorted(mentions.items()):
        yield f"{label:6} {boxed[label]:5} of {number:5} have a box: {boxed[label] / number:.3f}"


def open_posts(data: Path) -> Iterator[str]:
    """The three open posts: box, IoU with the best gold box, and evidence."""
    for post, mentions in POSTS:
        pins = pin(load_image(data / "posts" / f"{post}.jpg"), [(name, label) for name, label, _ in mentions])
        for found, (_, _, gold) in zip(pins, mentions, strict=True):
            box = found.box
            iou = f"IoU {max((box_iou(box, g) for g in gold), default=0.0):.3f}" if box else "no box"
            where = tuple(round(v) for v in box) if box else ""
            note = " (ambiguous)" if found.ambiguous else ""
            yield f"{post:8} {found.name:30} score {found.score:.2f} {iou} {where}{note}: {found.evidence}"


def pasted_faces() -> Iterator[str]:
    """Detection rates of one portrait pasted on two backgrounds; synthetic, and easier than real crowds."""
    finder = PeopleFinder(PeopleConfig())
    head = load_image(EXAMPLES / "astronaut.jpg").image.crop((110, 0, 350, 240))
    x1, y1, x2, y2 = (v - d for v, d in zip(FACE, (110, 0, 110, 0), strict=True))
    centre = ((x1 + x2) / 2 / 240, (y1 + y2) / 2 / 240)

    def rate(name: str, pictures: Sequence[tuple[Image.Image, Rectangle]]) -> str:
        hits = extra = 0
        for picture, face in pictures:
            ious = [box_iou(person.box, face) for person in finder.find(picture)]
            hits += any(iou > 0.4 for iou in ious)
            extra += sum(iou <= 0.4 for iou in ious)
        return f"{name:28} found {hits} of {len(pictures)}, false {extra}"

    for size in (20, 28, 40, 60, 100, 160):
        yield rate(f"face {size} px of 800", list(_paste(head, size, centre)))
    for angle in (10, 20, 30, 40):
        turned = [head.rotate(sign * angle, Image.Resampling.BICUBIC, fillcolor="grey") for sign in (-1, 1)]
        middles = [_turn(centre, sign * angle) for sign in (-1, 1)]
        yield rate(
            f"tilted {angle} degrees", [p for h, m in zip(turned, middles, strict=True) for p in _paste(h, 100, m)]
        )
    for light in (0.15, 0.3, 2.0):
        yield rate(f"light times {light}", list(_paste(ImageEnhance.Brightness(head).enhance(light), 100, centre)))
    for radius in (2, 5, 9):
        yield rate(
            f"blur of radius {radius} in 102 px",
            list(_paste(head.filter(ImageFilter.GaussianBlur(radius)), 100, centre)),
        )


def _paste(head: Image.Image, size: int, centre: tuple[float, float]) -> Iterator[tuple[Image.Image, Rectangle]]:
    """The head, its face `size` pixels wide, at two places on two backgrounds, 800 pixels wide; and its face box."""
    side = round(size * head.width / (FACE[2] - FACE[0]))
    small = head.resize((side, side))
    for name in ("rocket.jpg", "chelsea.jpg"):
        ground = load_image(EXAMPLES / name).image.resize((800, 533))
        for fx, fy in ((0.2, 0.1), (0.7, 0.6)):
            picture, x, y = ground.copy(), round(fx * (800 - side)), round(fy * (533 - side))
            picture.paste(small, (x, y))
            middle_x, middle_y = x + centre[0] * side, y + centre[1] * side
            yield picture, (middle_x - size / 2, middle_y - size / 2, middle_x + size / 2, middle_y + size / 2)


def _turn(point: tuple[float, float], degrees: float) -> tuple[float, float]:
    """The new position of a point of the unit square after Pillow's anticlockwise rotation about the middle."""
    x, y, angle = point[0] - 0.5, point[1] - 0.5, np.deg2rad(degrees)
    return (
        float(0.5 + x * np.cos(angle) + y * np.sin(angle)),
        float(0.5 - x * np.sin(angle) + y * np.cos(angle)),
    )


def cost() -> Iterator[str]:
    """Time and memory of a warm call on a picture of one megapixel with a person and words."""
    portrait = load_image(EXAMPLES / "astronaut.jpg").image.resize((600, 600))
    canvas = Image.new("RGB", (1200, 850), "white")
    canvas.paste(load_image(EXAMPLES / "flyer.png").image.resize((600, 450)), (600, 0))
    canvas.paste(portrait, (0, 200))
    names = (("Eileen Collins", "PER"), ("Harbour Jazz Festival", "OTHER"), ("NASA", "ORG"))
    for run in range(4):  # each picture differs in one pixel, so that no answer comes from a cache
        canvas.putpixel((0, 0), (run, 0, 0))
        buffer = io.BytesIO()
        canvas.save(buffer, "PNG")
        picture = load_image(buffer.getvalue())
        wall, cpu = time.perf_counter(), time.process_time()
        pin(picture, names)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        yield f"{'cold' if run == 0 else 'warm'}: {wall:.2f} s, {cpu:.2f} CPU s"
    yield f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"


def found_faces(folder: Path) -> Iterator[str]:
    """The number of photographs in which at least one person is found, and the others."""
    finder = PeopleFinder(PeopleConfig())
    found = {file.name: bool(finder.find(load_image(file).image)) for file in sorted(folder.iterdir())}
    yield f"{sum(found.values())} of {len(found)} photographs"
    yield from (f"nobody in {name}" for name, somebody in found.items() if not somebody)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="the folder with gmner/ and posts/")
    what.add_argument("--faces", type=Path, help="a folder of photographs, each with a face")
    what.add_argument("--photos", type=Path, help="a folder of photographs with truth.jsonl")
    what.add_argument("--words", action="store_true", help="draw words and read them")
    parser.add_argument("--json", type=Path, help="with --photos: write the figures to this file")
    arguments = parser.parse_args()
    data: Path = arguments.data
    if arguments.photos:
        figures = json.dumps(photographs.report(arguments.photos), indent=2)
        print(figures)
        if arguments.json:
            arguments.json.write_text(figures + "\n", "utf-8")
        return
    if arguments.words:
        print("\n".join(drawn_words.report()))
        return
    if arguments.faces:
        print("\n".join(found_faces(arguments.faces)))
        return
    parts = {
        "One picture of one megapixel": cost(),
        "Mentions with a box, GMNER v2.0 train": priors(data),
        "Open posts": open_posts(data),
        "Pasted portrait (synthetic)": pasted_faces(),
    }
    for title, lines in parts.items():
        print(f"\n{title}", flush=True)
        for line in lines:
            print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
