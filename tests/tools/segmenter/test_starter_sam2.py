"""Prompts are shared between the starter's segmenter and SAM 2, by the kind of their region."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namepin.tools.interfaces import Query, Segment, SegmentPrompt, SegmentRequest, Segments
from namepin.tools.media import Media
from namepin.tools.segmenter.config import StarterSam2Config
from namepin.tools.segmenter.grabcut import GrabCutSegmenter
from namepin.tools.segmenter.sam2 import Sam2Segmenter
from namepin.tools.segmenter.starter_sam2 import StarterSam2Segmenter
from namepin.tools.types import ImageRef, Notice
from support.tiny_sam2 import tiny_net

BOX = (10.0, 10.0, 60.0, 60.0)
QUERY = Query(text="Ada", label="PER", category="artist")


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> StarterSam2Segmenter:
    folder = tmp_path_factory.mktemp("sam2")
    tiny_net().save_pretrained(folder)
    return StarterSam2Segmenter(StarterSam2Config.model_validate({"sam": {"weights": str(folder)}}))


def test_starter_sam2_sends_things_to_sam_without_peak_and_keeps_order(
    tool: StarterSam2Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, list[SegmentPrompt]] = {}

    def answering(name: str) -> Any:
        def run(self: Any, requests: list[SegmentRequest], media: Media) -> list[Segments]:
            asked[name] = [*requests[0].prompts]
            segments = tuple(Segment(score=float(at)) for at in range(len(asked[name])))
            return [Segments(segments=segments, notices=(Notice(code="W120", tool=name, message="m"),))]

        return run

    monkeypatch.setattr(GrabCutSegmenter, "run", answering("starter"))
    monkeypatch.setattr(Sam2Segmenter, "run", answering("sam"))
    kinds: list[Any] = ["object", "face", None, "text"]
    prompts = [SegmentPrompt(query=QUERY, box=BOX, peak=(20, 20), kind=kind) for kind in kinds]
    prompts.append(SegmentPrompt(query=QUERY, peak=(20, 20)))
    image = ImageRef(sha256="a" * 64, width=80, height=80)
    (found,) = tool.run([SegmentRequest(image=image, prompts=tuple(prompts))], Media())
    assert [prompt.kind for prompt in asked["sam"]] == ["object", None] and not any(p.peak for p in asked["sam"])
    assert [prompt.kind for prompt in asked["starter"]] == ["face", "text", None]
    assert [segment.score for segment in found.segments] == [0, 0, 1, 1, 2]
    assert [notice.tool for notice in found.notices] == ["starter", "sam"]


def test_starter_sam2_masks_thing_within_picture(tool: StarterSam2Segmenter, tmp_path: Path) -> None:
    image = ImageRef(sha256="b" * 64, width=80, height=60)
    media = Media(images={"b" * 64: Image.effect_noise((80, 60), 60).convert("RGB")})
    prompt = SegmentPrompt(query=QUERY, box=(10.0, 10.0, 60.0, 50.0), kind="object")
    (found,) = tool.run([SegmentRequest(image=image, prompts=(prompt,))], media)
    assert found.segments[0].score is not None
    assert found.segments[0].mask is None or found.segments[0].mask.size == (60, 80)
    (empty,) = tool.run([SegmentRequest(image=image, prompts=())], media)
    assert empty == Segments(segments=())
