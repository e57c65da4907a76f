"""Matcher, tracer and segmenter together, on real photographs. No rule in the tools knows these pictures."""

import io
from pathlib import Path

import pytest
from PIL import Image

from namepin.evals.vision_check import PinnedMention, pin
from namepin.tools.geometry import box_iou
from namepin.tools.images.load import load_image
from support.paths import EXAMPLES

PERSON, ORG, LOC, OTHER = "PER", "ORG", "LOC", "OTHER"


def pinned(picture: Path | bytes, *names: tuple[str, str]) -> list[PinnedMention]:
    return pin(load_image(picture), names)


def test_starter_vision_on_astronaut_grounds_person_not_organization() -> None:
    collins, nasa = pinned(EXAMPLES / "astronaut.jpg", ("Eileen Collins", PERSON), ("NASA", ORG))
    assert collins.groundable and collins.box and collins.mask and collins.peak
    x, y = collins.peak
    assert collins.mask.to_array()[y, x]
    assert box_iou(collins.box, (15, 5, 380, 512)) > 0.7
    assert not nasa.groundable


def test_starter_vision_on_cat_and_rocket_grounds_nobody() -> None:
    assert not any(p.groundable for p in pinned(EXAMPLES / "chelsea.jpg", ("Chelsea", PERSON), ("Arsenal", ORG)))
    assert not any(p.groundable for p in pinned(EXAMPLES / "rocket.jpg", ("Elon Musk", PERSON), ("SpaceX", ORG)))


def test_starter_vision_on_flyer_grounds_printed_festival() -> None:
    festival, city, singer = pinned(
        EXAMPLES / "flyer.png", ("Harbour Jazz Festival", OTHER), ("Berlin", LOC), ("Ada Example", PERSON)
    )
    assert festival.groundable and festival.box and festival.evidence and "HARBOUR" in festival.evidence.upper()
    assert not city.groundable and not singer.groundable


@pytest.mark.data
def test_starter_vision_on_portrait_overlaps_gold_box(data_root: Path) -> None:
    (jolie,) = pinned(data_root / "posts" / "1953977.jpg", ("Angelina Jolie", PERSON))
    assert jolie.box and max(box_iou(jolie.box, gold) for gold in ((14, 2, 285, 300), (298, 18, 574, 300))) >= 0.5


@pytest.mark.data
def test_starter_vision_with_absent_person_grounds_present_one(data_root: Path) -> None:
    jolie, trump = pinned(data_root / "posts" / "O_2371.jpg", ("Angelina Jolie", PERSON), ("Donald Trump", PERSON))
    assert jolie.box and box_iou(jolie.box, (296, 24, 600, 450)) >= 0.5
    assert not trump.groundable or trump.ambiguous


@pytest.mark.data
def test_starter_vision_on_diagram_grounds_printed_title(data_root: Path) -> None:
    (lake,) = pinned(data_root / "posts" / "111254.jpg", ("Federation Business Data Lake", OTHER))
    assert lake.groundable and lake.box
    assert box_iou(lake.box, (8, 6, 456, 32)) > 0.7, "the words of the title, without its version number"


@pytest.mark.parametrize("size", [(1, 1), (1600, 100), (100, 1600), (7000, 5000)])
def test_starter_vision_on_blank_picture_grounds_nothing(size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    names = (("Ada Example", PERSON), ("Acme", ORG))
    assert not any(p.groundable for p in pinned(buffer.getvalue(), *names))
