import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from namepin.tools.geometry import box_iou
from namepin.tools.images.load import LoadedImage, load_image
from namepin.tools.interfaces import Query, Segment, SegmentPrompt, SegmentRequest, Segments
from namepin.tools.media import Media
from namepin.tools.segmenter.config import SegmenterConfig
from namepin.tools.segmenter.grabcut import GrabCutSegmenter
from namepin.tools.vision.bodies import person_region
from namepin.tools.vision.grabcut import object_region
from support.paths import EXAMPLES

FACE = (173.0, 65.0, 275.0, 167.0)
QUERY = Query(text="Eileen Collins", label="PER", category="person_other")


def loaded(picture: Image.Image) -> LoadedImage:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return load_image(buffer.getvalue())


def segmented(picture: LoadedImage, **prompt: Any) -> Segments:
    request = SegmentRequest(image=picture.ref, prompts=(SegmentPrompt(query=QUERY, **prompt),))
    media = Media(images={picture.ref.sha256: picture.image})
    return GrabCutSegmenter(SegmenterConfig()).run([request], media)[0]


@pytest.fixture(scope="module")
def astronaut() -> LoadedImage:
    return load_image(EXAMPLES / "astronaut.jpg")


@pytest.fixture(scope="module")
def poster() -> LoadedImage:
    picture = Image.new("RGB", (320, 200), "white")
    ImageDraw.Draw(picture).text((20, 20), "Harbour Jazz", fill="black", font=ImageFont.load_default(32))
    ImageDraw.Draw(picture).text((20, 120), "Saturday", fill="black", font=ImageFont.load_default(32))
    return loaded(picture)


def test_grabcut_of_face_box_segments_whole_person(astronaut: LoadedImage) -> None:
    (segment,) = segmented(astronaut, box=FACE, peak=(224, 116), kind="face").segments
    assert segment.mask is not None and segment.box is not None
    mask = segment.mask.to_array()
    assert mask.shape == (512, 512) and segment.box == segment.mask.tight_box()
    assert mask[116, 224] and mask[300, 200], "face and chest belong to her"
    assert not mask[60, 60] and not mask[100, 470], "flag and shuttle do not"
    # Her outline, hair to lower edge, drawn by hand; the helmet at the right may or may not count.
    assert box_iou(segment.box, (15, 5, 380, 512)) > 0.7


def test_grabcut_twice_gives_equal_masks(astronaut: LoadedImage) -> None:
    again = [segmented(astronaut, box=FACE, kind="face") for _ in range(2)]
    assert again[0] == again[1]


def test_grabcut_of_point_on_face_segments_person(astronaut: LoadedImage) -> None:
    (segment,) = segmented(astronaut, peak=(224, 116)).segments
    assert segment.mask is not None and segment.mask.to_array()[300, 200]


def test_grabcut_of_point_on_background_warns_w120(astronaut: LoadedImage) -> None:
    answer = segmented(astronaut, peak=(500, 20))
    assert answer.segments == (Segment(mask=None, box=None),)
    assert answer.notices[0].code == "W120"


def test_grabcut_of_text_box_outlines_those_words_only(poster: LoadedImage) -> None:
    (segment,) = segmented(poster, box=(15, 15, 225, 62), peak=(60, 40), kind="text").segments
    assert segment.mask is not None and segment.box is not None
    assert box_iou(segment.box, (20, 25, 215, 60)) > 0.6
    mask = segment.mask.to_array()
    assert mask[40, 60] and not mask[140, 60], "the other line is left out"


def test_grabcut_of_object_box_segments_object() -> None:
    picture = Image.new("RGB", (200, 160), (40, 120, 60))
    ImageDraw.Draw(picture).ellipse((70, 40, 130, 110), fill=(220, 40, 40))
    (segment,) = segmented(loaded(picture), box=(55, 25, 150, 125)).segments
    assert segment.box is not None and box_iou(segment.box, (70, 40, 131, 111)) > 0.8


@pytest.mark.parametrize("size", [(1, 1), (640, 40), (40, 640), (33, 17)])
@pytest.mark.parametrize("kind", ["face", "text", "object"])
def test_grabcut_with_picture_of_odd_size_returns_mask_of_that_size(size: tuple[int, int], kind: str) -> None:
    width, height = size
    box = (width * 0.3, height * 0.2, width * 0.3 + max(1, width / 4), height * 0.2 + max(1, height / 4))
    (segment,) = segmented(loaded(Image.new("RGB", size)), box=box, kind=kind).segments
    assert segment.mask is not None and segment.mask.size == (height, width)


def test_person_region_of_neighbours_barely_overlaps() -> None:
    noise = np.random.default_rng(1).integers(0, 40, (200, 300, 3)).astype(np.uint8)
    picture = Image.fromarray(noise + np.uint8(90))
    left, right = (70.0, 40.0, 110.0, 80.0), (160.0, 40.0, 200.0, 80.0)
    mine, theirs = person_region(picture, left, [right]), person_region(picture, right, [left])
    assert mine[60, 90] and theirs[60, 180] and not mine[60, 180] and not theirs[60, 90]
    assert (mine & theirs).sum() < 0.1 * min(mine.sum(), theirs.sum())


def test_person_region_of_face_beyond_picture_fills_it() -> None:
    region = person_region(Image.new("RGB", (60, 60), "grey"), (-20.0, -20.0, 80.0, 80.0))
    assert region.shape == (60, 60) and region.mean() > 0.5


def test_object_region_stays_in_its_box() -> None:
    region = object_region(Image.new("RGB", (90, 50), "grey"), (10.2, 5.5, 40.0, 30.0))
    ys, xs = np.nonzero(region)
    assert xs.min() >= 10 and xs.max() < 40 and ys.min() >= 5 and ys.max() < 30
