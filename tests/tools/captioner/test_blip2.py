"""BLIP-2's captions against transformers' own way, and recorded captions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration

from namepin.tools.base import file_sha256
from namepin.tools.captioner.blip2 import Blip2Captioner
from namepin.tools.captioner.config import Blip2CaptionerConfig, RecordedCaptionerConfig
from namepin.tools.captioner.recorded import RecordedCaptioner
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.images.tensors import squash
from namepin.tools.interfaces import Caption, CaptionRequest
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from support import tiny_rerankers as tiny

OTHER = Image.new("RGB", (40, 70), (200, 30, 90))
MEDIA = Media(images={tiny.REF.sha256: tiny.PICTURE, "cd" * 32: OTHER})
REQUESTS = [
    CaptionRequest(image=ImageRef(sha256=sha, width=image.width, height=image.height))
    for sha, image in MEDIA.images.items()
]


def captioner(folder: Path, **settings: Any) -> Blip2Captioner:
    given = {"weights": str(folder), "dtype": "float32", "max_tokens": 6} | settings
    return Blip2Captioner(Blip2CaptionerConfig.model_validate(given))


@pytest.mark.parametrize(("language_model", "prompt"), [("opt", ""), ("opt", "a photo of"), ("t5", "")])
def test_blip2_captions_equal_transformers_generate(tmp_path: Path, language_model: str, prompt: str) -> None:
    tool = captioner(tiny.save_blip2(tmp_path, language_model), prompt=prompt)
    net = Blip2ForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="eager")
    words = tool._words
    ids = torch.tensor([[net.config.image_token_id] * net.config.num_query_tokens + words(prompt)["input_ids"]])
    found = tool.run([*REQUESTS, REQUESTS[0]], MEDIA)
    for request, caption in zip(REQUESTS, found, strict=False):
        pixels = squash(MEDIA.images[request.image.sha256], tiny.SIDE)[None]
        rows = net.generate(
            pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=5,
            max_new_tokens=6, min_new_tokens=1, eos_token_id=tool._ends(), pad_token_id=0,
        )  # fmt: skip
        new = rows[0, ids.shape[1] :] if language_model == "opt" else rows[0]
        expected = words.decode(new, skip_special_tokens=True)
        assert caption == Caption(text=" ".join(expected.split()))
    assert found[2] == found[0]


def test_blip2_captions_are_independent_of_batch_size(tmp_path: Path) -> None:
    folder = tiny.save_blip2(tmp_path)
    tool, single = captioner(folder), captioner(folder, batch=1)
    assert single.run(REQUESTS, MEDIA) == tool.run(REQUESTS, MEDIA)
    assert tool.fingerprint == single.fingerprint != captioner(folder, beams=1).fingerprint


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_blip2_captioner_in_half_precision_returns_text(tmp_path: Path, dtype: str) -> None:
    assert all(caption.text for caption in captioner(tiny.save_blip2(tmp_path), dtype=dtype).run(REQUESTS, MEDIA))


def test_blip2_captioner_on_full_memory_halves_batch_with_w144(tmp_path: Path) -> None:
    tool = captioner(tiny.save_blip2(tmp_path))
    expected = tool.run(REQUESTS, MEDIA)

    def full(module: Any, inputs: Any, given: dict[str, Any]) -> None:
        if len(given["pixel_values"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    tool._net.vision_model.register_forward_pre_hook(full, with_kwargs=True)
    found = tool.run(REQUESTS, MEDIA)
    assert [caption.text for caption in found] == [caption.text for caption in expected]
    assert [notice.code for notice in found[0].notices] == ["W144"]


def test_blip2_captioner_with_llava_weights_raises_e212(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E212.*'llava'"):
        captioner(tiny.save_llava(tmp_path))


def test_blip2_captioner_with_truncated_weights_raises_e211(tmp_path: Path) -> None:
    weights = tiny.save_blip2(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    with pytest.raises(NamepinError, match="E211"):
        captioner(tmp_path)


def recorded(folder: Path, *rows: Any, **settings: Any) -> RecordedCaptioner:
    file = folder / "captions.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return RecordedCaptioner(RecordedCaptionerConfig(file=str(file), **settings))


def test_recorded_captioner_by_picture_hash_returns_caption_or_raises_e300(tmp_path: Path) -> None:
    tool = recorded(tmp_path, {"image": "cd" * 32, "caption": " a pink\nwall "}, "")
    assert tool.run(REQUESTS[1:], Media()) == [Caption(text="a pink wall")]
    with pytest.raises(ToolUnavailable, match="E300.*no caption is recorded"):
        tool.run(REQUESTS, Media())
    assert tool.fingerprint != recorded(tmp_path, {"image": "cd" * 32, "caption": "a wall"}).fingerprint


def test_recorded_captioner_of_dataset_resolves_ids_to_pictures(tmp_path: Path) -> None:
    OTHER.save(tmp_path / "17_06.jpg")
    rows = [{"id": "17_06", "caption": "a pink wall"}, {"id": "gone", "caption": "nothing"}]
    tool = recorded(tmp_path, *rows, images=str(tmp_path))
    image = ImageRef(sha256=file_sha256(tmp_path / "17_06.jpg"), width=40, height=70)
    assert tool.run([CaptionRequest(image=image)], Media()) == [Caption(text="a pink wall")]


@pytest.mark.parametrize(
    "row", ["{", "[]", '{"image": "cd", "caption": "x"}', '{"image": 5, "caption": "x"}', '{"id": "a", "caption": "x"}',
            '{"id": "a"}'],
)  # fmt: skip
def test_recorded_captioner_with_invalid_row_raises_e134(tmp_path: Path, row: str) -> None:
    with pytest.raises(NamepinError, match="E134.*:1"):
        recorded(tmp_path, row)


def test_recorded_captioner_without_file_raises_e130(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E130"):
        RecordedCaptioner(RecordedCaptionerConfig(file=str(tmp_path / "none.jsonl")))
