"""SAM and SEEM together: the rule, case by case, and the segmenter on two tiny nets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.geometry import Region
from namepin.tools.interfaces import Segments
from namepin.tools.media import Media
from namepin.tools.models.config import SamConfig, SeemConfig
from namepin.tools.segmenter.config import GemSegmenterConfig, SamSegmenterConfig, SeemSegmenterConfig
from namepin.tools.segmenter.gem import GemSegmenter, fuse
from namepin.tools.segmenter.sam import SamSegmenter
from namepin.tools.segmenter.seem import SeemSegmenter
from support import tiny_sam, tiny_seem
from support.tiny_sam import PICTURE, image_ref, prompt, request

REF = image_ref(PICTURE)


def area(x1: int, y1: int, x2: int, y2: int) -> Region:
    region = np.zeros((40, 40), dtype=bool)
    region[y1:y2, x1:x2] = True
    return region


HEAD, SHIRT, PERSON, CROWD = area(15, 2, 20, 8), area(12, 8, 24, 20), area(10, 2, 26, 38), area(0, 0, 40, 39)
ROUGH = area(10, 3, 25, 36)
ELSEWHERE, NOTHING = area(30, 30, 38, 38), area(0, 0, 0, 0)
ON_HEAD = (17, 4)


@pytest.mark.parametrize(
    ("sam", "best", "seem", "expected"),
    [
        ([HEAD, SHIRT, PERSON], 0, ROUGH, 2),
        ([HEAD, SHIRT, CROWD], 0, ROUGH, None),
        ([HEAD, SHIRT, PERSON], 0, ELSEWHERE, 0),
        ([HEAD, SHIRT, PERSON], 0, NOTHING, 0),
        ([NOTHING] * 3, 1, ROUGH, None),
        ([NOTHING] * 3, 1, NOTHING, None),
        ([HEAD], 0, HEAD, 0),
        ([CROWD], 0, HEAD, None),
    ],
    ids=[
        "the outline of the mask that SEEM means",
        "SAM took the head for the person",
        "SEEM went elsewhere",
        "SEEM found nothing",
        "SAM found nothing",
        "neither found anything",
        "both found the head",
        "SAM took the crowd",
    ],
)
def test_fuse_rule_selects_sam_mask_or_seem(sam: list[Region], best: int, seem: Region, expected: int | None) -> None:
    assert fuse(sam, best, seem, ON_HEAD, 0.5) == expected


def test_fuse_agreement_bound_is_inclusive() -> None:
    iou = (ROUGH & PERSON).sum() / (ROUGH | PERSON).sum()
    assert fuse([PERSON], 0, ROUGH, ON_HEAD, iou) == 0
    assert fuse([PERSON], 0, ROUGH, ON_HEAD, iou + 1e-9) is None


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> tuple[SamConfig, SeemConfig]:
    folder = tmp_path_factory.mktemp("gem")
    tiny_sam.save_folder(tiny_sam.tiny_net(), folder / "sam")
    weights, words = tiny_seem.save(tiny_seem.tiny_net(), folder)
    seem = SeemConfig(weights=str(weights), tokenizer=str(words), short_side=32, long_side=64)
    return SamConfig(weights=str(folder / "sam")), seem


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_segmenter(nets: tuple[SamConfig, SeemConfig], **settings: float) -> GemSegmenter:
    return GemSegmenter(GemSegmenterConfig(sam=nets[0], seem=nets[1], **settings))


def test_gem_segmenter_mask_equals_mask_of_sam_or_seem(nets: tuple[SamConfig, SeemConfig], media: Media) -> None:
    """With an agreement that no two masks reach, SEEM's where it holds the point, else SAM's best."""
    prompts = [prompt((x, y)) for x in range(0, 50, 12) for y in (2, 15, 28)] + [prompt(box=(4.0, 3.0, 40.0, 28.0))]
    asked = [request(*prompts)]
    fused = a_segmenter(nets, agreement=1.0).run(asked, media)[0]
    sam = SamSegmenter(SamSegmenterConfig(sam=nets[0])).run(asked, media)[0]
    seem = SeemSegmenter(SeemSegmenterConfig(seem=nets[1])).run(asked, media)[0]
    taken = []
    for one, both, first, second in zip(prompts, fused.segments, sam.segments, seem.segments, strict=True):
        x, y = one.peak or (22, 15)
        holds = second.mask is not None and bool(second.mask.to_array()[y, x])
        assert both == (second if holds or first.mask is None else first)
        taken.append(holds)
    assert True in taken and False in taken


def test_gem_segmenter_with_agreement_returns_sam_outline(nets: tuple[SamConfig, SeemConfig], media: Media) -> None:
    prompts = [prompt((x, y)) for x in range(0, 50, 12) for y in (2, 15, 28)]
    segmenter = a_segmenter(nets, agreement=1e-6)
    for one, segment in zip(prompts, segmenter.run([request(*prompts)], media)[0].segments, strict=True):
        seem = SeemSegmenter(SeemSegmenterConfig(seem=nets[1])).run([request(one)], media)[0].segments[0]
        if seem.mask is not None and segment.mask is not None:
            assert segment.mask != seem.mask


def test_gem_segmenter_with_prompt_without_place_warns_w122(nets: tuple[SamConfig, SeemConfig], media: Media) -> None:
    segmenter = a_segmenter(nets)
    found = segmenter.run([request(prompt(), prompt((3, 3)))], media)[0]
    assert found.segments[0].mask is None and [notice.code for notice in found.notices][:1] == ["W122"]
    assert segmenter.run([request(prompt())], Media())[0].notices[0].code == "W122"
    assert segmenter.run([request()], Media()) == [Segments(segments=())]
    with pytest.raises(NamepinError, match="E120"):
        fresh = nets[0].model_copy(update={"prompt_batch": 3}), nets[1]
        a_segmenter(fresh).run([request(prompt((3, 3)))], Media())


@pytest.mark.parametrize("image", [Image.new("RGB", (64, 64)), Image.new("RGB", (1600, 100), "white")])
def test_gem_segmenter_with_odd_pictures_stays_valid(nets: tuple[SamConfig, SeemConfig], image: Image.Image) -> None:
    width, height = image.size
    asked = request(prompt((width, height)), prompt((0, 0)), prompt((-1, 5)), image=image)
    own = Media(images={REF.sha256: image})
    small = nets[0].model_copy(update={"cached_pictures": 0}), nets[1].model_copy(update={"cached_pictures": 0})
    for segment in a_segmenter(small).run([asked], own)[0].segments:
        assert segment.mask is None or (segment.mask.size == (height, width) and segment.box is not None)


def test_gem_segmenter_shares_weights_with_single_segmenters(nets: tuple[SamConfig, SeemConfig]) -> None:
    segmenter = a_segmenter(nets)
    assert SamSegmenter(SamSegmenterConfig(sam=nets[0])).sam is segmenter.sam
    assert SeemSegmenter(SeemSegmenterConfig(seem=nets[1])).seem is segmenter.seem


def test_gem_segmenter_fingerprint_depends_on_agreement(nets: tuple[SamConfig, SeemConfig], tmp_path: Path) -> None:
    other = SamConfig(weights=str(tiny_sam.save_folder(tiny_sam.tiny_net(seed=1), tmp_path)))
    prints = [a_segmenter(nets), a_segmenter(nets, agreement=0.7), a_segmenter((other, nets[1]))]
    assert len({segmenter.fingerprint for segmenter in prints}) == 3
