"""The starter vision against boxes and polygons drawn by people, on a folder of everyday photographs.

The folder holds `truth.jsonl`, one row a photograph: `image` (path in the folder), `width`, `height`, `things` (COCO
class, of which 0 is a person, `box` and `polygon`) and `faces` (boxes of at least 4% of the long side). A folder `dlib`
of photographs with face boxes in dlib's XML may lie beside it.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from defusedxml import ElementTree
from PIL import Image

from namepin.tools.geometry import Rectangle, Region, box_iou, region_iou
from namepin.tools.images.load import load_image
from namepin.tools.types import Mask
from namepin.tools.vision.bodies import person_region
from namepin.tools.vision.config import SceneConfig
from namepin.tools.vision.faces import PeopleFinder
from namepin.tools.vision.grabcut import polygon_region
from namepin.tools.vision.ocr import TextReader

SMALLEST = 0.04
"""Faces below this share of the long side are not in the truth, so detections below it count as nothing."""


@dataclass(frozen=True)
class Photograph:
    """A photograph and what people marked on it, in its pixels.

    Attributes:
        file: the picture.
        faces: all faces of at least `SMALLEST` of the long side.
        people: boxes and polygons of all people; None where nobody marked people.
    """

    file: Path
    faces: tuple[Rectangle, ...]
    people: tuple[tuple[Rectangle, tuple[tuple[float, float], ...]], ...] | None


@dataclass
class Counts:
    """What `score` counts.

    Attributes:
        truth: faces that are there.
        found: of these, how many were found.
        wrong: detections that are none of these.
        boxes: IoU of each person's box, 0 for those whose face was not found.
        masks: the same for the masks.
        clean: per photograph without people, whether nobody was found.
        seconds: CPU seconds per photograph, warm: finding people, reading words.
    """

    truth: int = 0
    found: int = 0
    wrong: int = 0
    boxes: list[float] = field(default_factory=list)
    masks: list[float] = field(default_factory=list)
    clean: list[bool] = field(default_factory=list)
    seconds: list[tuple[float, float]] = field(default_factory=list)


def read(folder: Path) -> Iterator[Photograph]:
    """The photographs of `truth.jsonl`.

    Raises:
        OSError: the file or a picture is missing.
        ValueError: a row is not what the module's text says.
    """
    for line in (folder / "truth.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        people = [
            (tuple(thing["box"]), tuple((float(x), float(y)) for x, y in thing["polygon"]))
            for thing in row["things"]
            if thing["class"] == 0
        ]
        yield Photograph(folder / row["image"], tuple(tuple(face) for face in row["faces"]), tuple(people))


def read_dlib(folder: Path) -> Iterator[Photograph]:
    """Example photographs of dlib, with faces in `testing.xml` and `training.xml`."""
    for name in ("testing.xml", "training.xml"):
        for image in ElementTree.parse(folder / name).iter("image"):
            boxes = [[float(box.get(key)) for key in ("left", "top", "width", "height")] for box in image.iter("box")]
            yield Photograph(folder / image.get("file"), tuple((x, y, x + w, y + h) for x, y, w, h in boxes), None)


def score(photographs: Sequence[Photograph]) -> Counts:
    """Run the starter's people finder, text reader and person segmenter on photographs."""
    counts = Counts()
    config = SceneConfig()
    finder, reader = PeopleFinder(config.people), TextReader(config.ocr)
    for i, photograph in enumerate(photographs):
        image = load_image(photograph.file).image
        if i == 0:  # models are loaded on the first call
            finder.find(image)
            reader.read(image)
        start = time.process_time()
        found = [person.box for person in finder.find(image)]
        middle = time.process_time()
        reader.read(image)
        counts.seconds.append((middle - start, time.process_time() - middle))
        pairs = match(found, photograph.faces)
        smallest = SMALLEST * max(image.size)
        large = [i for i, box in enumerate(found) if max(box[2] - box[0], box[3] - box[1]) >= smallest]
        counts.truth += len(photograph.faces)
        counts.found += len(pairs)
        counts.wrong += sum(i not in pairs.values() for i in large)
        if photograph.people is not None and not photograph.people:
            counts.clean.append(not found)
        _score_people(counts, photograph, image, found, pairs)
    return counts


def match(found: Sequence[Rectangle], truth: Sequence[Rectangle], *, iou: float = 0.5) -> dict[int, int]:
    """Pairs of truth and detection that overlap, the best first: index of the truth to index of the detection."""
    overlaps = sorted(
        ((box_iou(box, face), i, j) for i, box in enumerate(found) for j, face in enumerate(truth)), reverse=True
    )
    pairs: dict[int, int] = {}
    for overlap, i, j in overlaps:
        if overlap >= iou and j not in pairs and i not in pairs.values():
            pairs[j] = i
    return pairs


def _score_people(
    counts: Counts, photograph: Photograph, image: Image.Image, found: Sequence[Rectangle], pairs: dict[int, int]
) -> None:
    """The person of each true face, grown from the face that was found there."""
    outlines = [polygon_region(image.size, [polygon]) for _, polygon in photograph.people or ()]
    owners: dict[int, int] = {}
    for j, face in enumerate(photograph.faces):
        owner = _owner(face, outlines)
        if owner is not None and owner not in owners:
            owners[owner] = j
    for owner, j in owners.items():
        if j not in pairs:
            counts.boxes.append(0.0)
            counts.masks.append(0.0)
            continue
        others = [box for i, box in enumerate(found) if i != pairs[j]]
        region = person_region(image, found[pairs[j]], others)
        box = Mask.from_array(region).tight_box()
        counts.boxes.append(box_iou(box, (photograph.people or ())[owner][0]) if box else 0.0)
        counts.masks.append(region_iou(region, outlines[owner]))


def _owner(face: Rectangle, outlines: Sequence[Region]) -> int | None:
    """The person whose outline covers most of a face, and at least 30% of it."""
    rows, columns = slice(round(face[1]), round(face[3])), slice(round(face[0]), round(face[2]))
    covered = [float(outline[rows, columns].mean()) for outline in outlines]
    best = max(range(len(covered)), key=covered.__getitem__, default=None)
    return best if best is not None and covered[best] >= 0.3 else None


def report(folder: Path) -> dict[str, Any]:
    """The figures of a folder, as `--json` writes them; shares are fractions, null where there is nothing to count."""
    counts = score(list(read(folder)))
    result: dict[str, Any] = {"faces": _faces(counts)}
    if (folder / "dlib").is_dir():
        result["faces_dlib"] = _faces(score(list(read_dlib(folder / "dlib"))))
    people, words = np.mean(counts.seconds, axis=0) if counts.seconds else (0.0, 0.0)
    return result | {
        "people": {
            "box_at_50": _share([iou >= 0.5 for iou in counts.boxes]),
            "mean_mask_iou": _share(counts.masks),
            "n": len(counts.boxes),
        },
        "clean": {"share": _share(counts.clean), "n": len(counts.clean)},
        "cpu_seconds": {
            "people": round(float(people), 4),
            "ocr": round(float(words), 4),
            "together": round(float(people + words), 4),
            "n": len(counts.seconds),
        },
    }


def _faces(counts: Counts) -> dict[str, Any]:
    reported = counts.found + counts.wrong
    return {
        "recall": round(counts.found / counts.truth, 4) if counts.truth else None,
        "precision": round(counts.found / reported, 4) if reported else None,
        "found": counts.found,
        "wrong": counts.wrong,
        "truth": counts.truth,
    }


def _share(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
