"""SAM 3: masks against transformers with the picture's way written out, the choice among instances, bad weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import Segments
from namepin.tools.media import Media
from namepin.tools.models.config import Sam3Config
from namepin.tools.segmenter.config import Sam3SegmenterConfig
from namepin.tools.segmenter.sam3 import Instances, Sam3Segmenter, choose
from support.tiny_sam import PICTURE, image_ref, prompt, request
from support.tiny_sam3 import tiny_net, words

REF = image_ref(PICTURE)
BOX = (4.0, 3.0, 40.0, 28.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam3")
    tiny_net().save_pretrained(path)
    words().save_pretrained(path)
    return path


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_segmenter(weights: Path, threshold: float = 0.0) -> Sam3Segmenter:
    return Sam3Segmenter(Sam3SegmenterConfig(sam=Sam3Config(weights=str(weights)), threshold=threshold))


def test_sam3_instances_equal_transformers(folder: Path) -> None:
    """The text padded to 32 tokens, as SAM 3's processor does it, which ours leaves out."""
    sam = a_segmenter(folder).sam
    found = sam.instances(sam.features(PICTURE), "athlete")
    squashed = np.array(PICTURE.resize((112, 112), Image.Resampling.BILINEAR))
    pixels = (torch.from_numpy(squashed) / 255 - 0.5) / 0.5
    text = words()("athlete", padding="max_length", max_length=32, return_tensors="pt")
    with torch.no_grad():
        output = tiny_net()(
            pixel_values=pixels.permute(2, 0, 1)[None],
            input_ids=text["input_ids"],
            attention_mask=text["attention_mask"],
        )
    assert found.masks.numpy() == pytest.approx(output.pred_masks[0].sigmoid().numpy(), abs=1e-4)
    assert found.boxes.numpy() == pytest.approx(output.pred_boxes[0].numpy(), abs=1e-4)
    scores = output.pred_logits[0].sigmoid() * output.presence_logits[0].sigmoid()
    assert found.scores.numpy() == pytest.approx(scores.numpy(), rel=1e-3)


def an_instance_list() -> Instances:
    """Left half, right half, everything; 10 x 10."""
    masks = torch.zeros(3, 10, 10)
    masks[0, :, :5], masks[1, :, 5:], masks[2] = 1, 1, 1
    boxes = torch.tensor([[0.0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1]])
    return Instances(masks, boxes, torch.tensor([0.6, 0.9, 0.4]))


@pytest.mark.parametrize(
    ("point", "box", "threshold", "expected"),
    [
        ((1, 1), None, 0.3, 0),
        ((8, 8), None, 0.3, 1),
        ((1, 1), None, 0.7, None),
        (None, None, 0.3, 1),
        (None, None, 0.95, None),
        (None, (0.0, 0.0, 5.0, 9.0), 0.3, 0),
        ((8, 8), (0.0, 0.0, 10.0, 9.0), 0.3, 2),
        (None, (0.0, 0.0, 4.0, 9.0), 0.7, None),
    ],
)
def test_choose_among_instances_prefers_prompt_match_above_threshold(
    point: tuple[int, int] | None, box: tuple[float, float, float, float] | None, threshold: float, expected: int | None
) -> None:
    assert choose(an_instance_list(), point, box, (10, 10), threshold) == expected


def test_sam3_segmenter_from_video_model_folder_equals_image_model(folder: Path, media: Media, tmp_path: Path) -> None:
    """As published: the picture's part under another name, beside a tracker."""
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam3_video", "detector_config": config}))
    tensors = {f"detector_model.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    tracker = {"tracker_model.no_object_pointer": torch.zeros(1, 3), "tracker_neck.x": torch.zeros(2)}
    save_file(tensors | tracker, tmp_path / "model.safetensors", metadata={"format": "pt"})
    words().save_pretrained(tmp_path)
    asked = [request(prompt((12, 20)), prompt(box=BOX), prompt())]
    published, plain = a_segmenter(tmp_path).run(asked, media)[0], a_segmenter(folder).run(asked, media)[0]
    for one, other in zip(published.segments, plain.segments, strict=True):
        assert (one.score or 0) == pytest.approx(other.score or 0, rel=1e-3) and (one.mask is None) == (
            other.mask is None
        )


@pytest.mark.parametrize("image", [Image.new("RGB", (64, 64)), Image.new("RGB", (1600, 100), "white")])
def test_sam3_segmenter_with_odd_pictures_and_points_gives_valid_masks(folder: Path, image: Image.Image) -> None:
    width, height = image.size
    asked = request(prompt((width, height)), prompt(), prompt(box=(-3.0, -3.0, width + 3.0, 9.0)), image=image)
    found = a_segmenter(folder).run([asked], Media(images={REF.sha256: image}))[0]
    assert len(found.notices) == sum(segment.mask is None for segment in found.segments)
    for segment in found.segments:
        assert segment.mask is None or segment.mask.size == (height, width)
    assert a_segmenter(folder).run([request()], Media()) == [Segments(segments=())]


def test_sam3_segmenter_with_bad_weights_raises_e211_or_e212(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1000])
    with pytest.raises(NamepinError, match="E211"):
        a_segmenter(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(NamepinError, match="E212"):
        a_segmenter(tmp_path)
    with pytest.raises(NamepinError, match="E212"):
        a_segmenter(folder / "model.safetensors")
