"""Qwen-VL's processor without torchvision: placeholders, pictures, and unusable folders."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from namepin.finetune.sandbox.qwen_vl import save_qwen_vl
from namepin.tools.errors import NamepinError
from namepin.tools.loading.config import Placement
from namepin.tools.models.qwen_vl import PICTURE, load_processor, load_qwen_vl

VOCABULARY = 10_000
PLACE = Placement(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen_vl(tmp_path_factory.mktemp("qwen"), ["ada runs in rome"] * 3, width=32, layers=1)


def conversation(width: int, height: int, text: str) -> list[dict[str, Any]]:
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    content = [{"type": "image", "image": Image.fromarray(pixels)}, {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def written(processor: Any, *conversations: list[dict[str, Any]]) -> Any:
    return processor.apply_chat_template(
        list(conversations),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
    )


def test_processor_writes_one_placeholder_per_merged_patch_and_net_answers(folder: Path) -> None:
    processor = load_processor(folder, VOCABULARY)
    batch = written(processor, conversation(84, 56, "ada runs"), conversation(56, 56, "ada"))
    picture = processor.tokenizer.convert_tokens_to_ids(PICTURE)
    assert (batch["input_ids"] == picture).sum(1).tolist() == [3 * 2, 2 * 2]
    assert torch.equal(batch["mm_token_type_ids"] == 1, batch["input_ids"] == picture)
    assert batch["image_grid_thw"].tolist() == [[1, 4, 6], [1, 4, 4]]
    net = load_qwen_vl(PLACE, folder)
    ids = net.generate(**batch, max_new_tokens=2, do_sample=False)
    assert ids.shape == (2, batch["input_ids"].shape[1] + 2)


def test_processor_equals_the_one_of_transformers(folder: Path) -> None:
    pytest.importorskip("torchvision", reason="transformers' own processor reads videos with torchvision")
    from transformers import Qwen2_5_VLProcessor, Qwen2VLVideoProcessor

    own = load_processor(folder, VOCABULARY)
    videos = Qwen2VLVideoProcessor()
    theirs = Qwen2_5_VLProcessor(own.image_processor, own.tokenizer, videos, chat_template=own.chat_template)
    rows = [conversation(100, 128, "ada"), conversation(333, 40, "ada runs in rome")]
    ours, reference = written(own, *rows), written(theirs, *rows)
    assert set(ours) == set(reference) and all(torch.equal(ours[key], reference[key]) for key in ours)


def test_processor_reads_pixel_bounds_of_published_folders(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    settings = json.loads((other / "preprocessor_config.json").read_text())
    del settings["size"]
    (other / "preprocessor_config.json").write_text(json.dumps(settings | {"min_pixels": 784, "max_pixels": 1568}))
    batch = written(load_processor(other, VOCABULARY), conversation(84, 84, "ada"))
    assert batch["image_grid_thw"].prod() * 14 * 14 <= 1568


def test_folder_without_chat_template_raises_e218(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    (other / "chat_template.jinja").unlink()
    with pytest.raises(NamepinError, match="E218: the tokenizer has no chat template"):
        load_processor(other, VOCABULARY)


def test_folder_of_another_kind_raises_e212(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    described = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(described | {"model_type": "llava"}))
    with pytest.raises(NamepinError, match="E212.*'llava'"):
        load_qwen_vl(PLACE, other)
