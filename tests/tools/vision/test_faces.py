import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from namepin.tools.geometry import box_iou
from namepin.tools.images.load import load_image
from namepin.tools.vision.config import PeopleConfig
from namepin.tools.vision.faces import PeopleFinder, _somebody_there
from support.paths import EXAMPLES

FACE = (173, 65, 275, 167)
"""Eileen Collins's face in examples/astronaut.jpg (512x512)."""


@pytest.fixture(scope="module")
def finder() -> PeopleFinder:
    return PeopleFinder(PeopleConfig())


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return load_image(EXAMPLES / "astronaut.jpg").image


def test_people_finder_locates_one_sharp_face(finder: PeopleFinder, astronaut: Image.Image) -> None:
    (person,) = finder.find(astronaut)
    assert box_iou(person.box, FACE) > 0.6
    assert person.confidence > 0.9 and person.sharpness > 0.3


def test_people_finder_on_mirrored_dark_grey_picture_finds_face(finder: PeopleFinder, astronaut: Image.Image) -> None:
    (person,) = finder.find(ImageOps.mirror(astronaut))
    assert box_iou(person.box, (512 - FACE[2], FACE[1], 512 - FACE[0], FACE[3])) > 0.6
    (person,) = finder.find(ImageEnhance.Brightness(astronaut.convert("L").convert("RGB")).enhance(0.4))
    assert box_iou(person.box, FACE) > 0.6


def test_people_finder_boxes_use_pixels_of_given_picture(finder: PeopleFinder, astronaut: Image.Image) -> None:
    (person,) = finder.find(astronaut.resize((1536, 1536)))
    assert box_iou(person.box, tuple(3 * v for v in FACE)) > 0.6


@pytest.mark.parametrize("angle", [-25, 25])
def test_people_finder_finds_tilted_head(finder: PeopleFinder, astronaut: Image.Image, angle: int) -> None:
    people = finder.find(astronaut.rotate(angle, Image.Resampling.BILINEAR, fillcolor="grey"))
    # Where the rotation puts the middle of the face; PIL turns anticlockwise about the middle of the picture.
    x, y, turn = 224 - 256, 116 - 256, np.deg2rad(angle)
    at = (256 + x * np.cos(turn) + y * np.sin(turn), 256 - x * np.sin(turn) + y * np.cos(turn))
    assert len(people) == 1
    assert abs((people[0].box[0] + people[0].box[2]) / 2 - at[0]) < 25
    assert abs((people[0].box[1] + people[0].box[3]) / 2 - at[1]) < 25


def test_people_finder_orders_people_by_size_and_sharpness(finder: PeopleFinder, astronaut: Image.Image) -> None:
    portrait = astronaut.crop((110, 0, 350, 300))
    canvas = Image.new("RGB", (760, 320), "slategrey")
    canvas.paste(portrait.filter(ImageFilter.GaussianBlur(3)), (10, 10))
    canvas.paste(portrait, (260, 10))
    canvas.paste(portrait.resize((160, 200)), (540, 60))
    people = finder.find(canvas)
    assert [round(person.box[0]) // 250 for person in people] == [1, 2, 0]


@pytest.mark.parametrize("name", ["chelsea.jpg", "rocket.jpg", "flyer.png"])
def test_people_finder_on_pictures_without_people_finds_nobody(finder: PeopleFinder, name: str) -> None:
    assert finder.find(load_image(EXAMPLES / name).image) == ()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (480, 30)])
@pytest.mark.parametrize("colour", ["black", "white"])
def test_people_finder_on_blank_picture_finds_nobody(finder: PeopleFinder, size: tuple[int, int], colour: str) -> None:
    assert finder.find(Image.new("RGB", size, colour)) == ()


def test_people_finder_on_noise_finds_nobody(finder: PeopleFinder) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    assert finder.find(Image.fromarray(noise)) == ()


def test_people_finder_on_equal_pictures_gives_equal_result(finder: PeopleFinder, astronaut: Image.Image) -> None:
    assert finder.find(astronaut) == PeopleFinder(PeopleConfig()).find(astronaut.copy())


def test_a_cat_with_a_low_score_needs_a_person_around_it() -> None:
    cat = load_image(EXAMPLES / "chelsea.jpg").image
    alone = PeopleFinder(PeopleConfig())._faces(np.asarray(cat.resize((640, 426))))
    assert [score for _, score in alone if score > 0.6], "the detector alone takes the cat for a face"
    assert PeopleFinder(PeopleConfig()).find(cat) == ()


def test_somebody_there_is_told_by_the_person_segmenter(astronaut: Image.Image) -> None:
    cat = np.asarray(load_image(EXAMPLES / "chelsea.jpg").image)
    assert _somebody_there(np.asarray(astronaut), FACE)
    assert not _somebody_there(cat, (224, 0, 451, 242))


def test_weights_are_the_models(finder: PeopleFinder) -> None:
    assert finder.weights == PeopleFinder(PeopleConfig(side=480)).weights and len(finder.weights) == 64
