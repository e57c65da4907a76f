"""Matcher, tracer and segmenter together, on real photographs. No rule in the tools knows these pictures."""

import io
from pathlib import Path

import pytest
from PIL import Image

from namepin.evals.vision_check import Pinned, pin
from namepin.tools.geometry import box_iou
from namepin.tools.images.load import load_image
from support.paths import EXAMPLES

PERSON, ORG, LOC, OTHER = "PER", "ORG", "LOC", "OTHER"


def pinned(picture: Path | bytes, *names: tuple[str, str]) -> list[Pinned]:
    return pin(load_image(picture), names)


def test_the_astronaut_is_pinned_and_nasa_is_not() -> None:
    collins, nasa = pinned(EXAMPLES / "astronaut.jpg", ("Eileen Collins", PERSON), ("NASA", ORG))
    assert collins.groundable and collins.box and collins.mask and collins.peak
    x, y = collins.peak
    assert collins.mask.to_array()[y, x]
    assert box_iou(collins.box, (15, 5, 380, 512)) > 0.7
    assert not nasa.groundable


def test_a_cat_and_a_rocket_are_nobody() -> None:
    assert not any(p.groundable for p in pinned(EXAMPLES / "chelsea.jpg", ("Chelsea", PERSON), ("Arsenal", ORG)))
    assert not any(p.groundable for p in pinned(EXAMPLES / "rocket.jpg", ("Elon Musk", PERSON), ("SpaceX", ORG)))


def test_the_flyer_says_its_festival() -> None:
    festival, city, singer = pinned(
        EXAMPLES / "flyer.png", ("Harbour Jazz Festival", OTHER), ("Berlin", LOC), ("Ada Example", PERSON)
    )
    assert festival.groundable and festival.box and festival.evidence and "HARBOUR" in festival.evidence.upper()
    assert not city.groundable and not singer.groundable


@pytest.mark.data
def test_angelina_jolie_alone(data_root: Path) -> None:
    (jolie,) = pinned(data_root / "posts" / "1953977.jpg", ("Angelina Jolie", PERSON))
    assert jolie.box and max(box_iou(jolie.box, gold) for gold in ((14, 2, 285, 300), (298, 18, 574, 300))) >= 0.5


@pytest.mark.data
def test_angelina_jolie_and_a_president_who_is_not_there(data_root: Path) -> None:
    jolie, trump = pinned(data_root / "posts" / "O_2371.jpg", ("Angelina Jolie", PERSON), ("Donald Trump", PERSON))
    assert jolie.box and box_iou(jolie.box, (296, 24, 600, 450)) >= 0.5
    assert not trump.groundable or trump.ambiguous


@pytest.mark.data
def test_the_title_of_a_diagram(data_root: Path) -> None:
    (lake,) = pinned(data_root / "posts" / "111254.jpg", ("Federation Business Data Lake", OTHER))
    assert lake.groundable and lake.box
    assert box_iou(lake.box, (8, 6, 456, 32)) > 0.7, "the words of the title, without its version number"


@pytest.mark.parametrize("size", [(1, 1), (1600, 100), (100, 1600), (7000, 5000)])
def test_odd_pictures(size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    names = (("Ada Example", PERSON), ("Acme", ORG))
    assert not any(p.groundable for p in pinned(buffer.getvalue(), *names))
