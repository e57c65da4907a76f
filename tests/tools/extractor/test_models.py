"""The extractor with real models: a tiny Qwen2.5-VL in this process, and tiny models behind `transformers serve`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.config.settings import load_settings
from namepin.finetune.sandbox.qwen_vl import save_qwen_vl
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.extractor.answer import GoldMention, write_answer
from namepin.tools.extractor.config import LocalExtractorConfig
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.local import LocalExtractor
from namepin.tools.extractor.prompt import SYSTEM, extract_question
from namepin.tools.interfaces import ExtractRequest
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from support import tiny_chat, tiny_vlm

TEXT = "Ada met Bob"
PICTURES = {"a" * 64: Image.new("RGB", (56, 56), "red"), "b" * 64: Image.new("RGB", (56, 56), "blue")}
PIXELS = BoxFrame("pixels", (56, 56), (56, 56))
ADA, BOB = GoldMention("Ada", "PER", (0.0, 0.0, 28.0, 56.0)), GoldMention("Bob", "PER")
ANSWERS = [write_answer([ADA, BOB], PIXELS), write_answer([BOB], PIXELS)]


def request(sha256: str | None = "a" * 64, text: str = TEXT) -> ExtractRequest:
    return ExtractRequest(text=text, image=ImageRef(sha256=sha256, width=56, height=56) if sha256 else None)


def local(folder: Path, **changes: Any) -> LocalExtractor:
    settings = {"weights": str(folder), "dtype": "float32", "min_pixels": 3136, "max_pixels": 3136, "max_tokens": 64}
    return LocalExtractor(LocalExtractorConfig.model_validate(settings | changes))


def teach(folder: Path) -> None:
    """Train the model in a folder until it gives both pictures their answers by heart."""
    tool = local(folder)
    net, processor = tool.net, tool.processor
    asked = extract_question(TEXT, "gmner4", PIXELS)
    rows = [
        [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
            {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": asked}]},
            {"role": "assistant", "content": [{"type": "text", "text": answer}]},
        ]
        for image, answer in zip(PICTURES.values(), ANSWERS, strict=True)
    ]
    written: Any = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    batch = processor.apply_chat_template(rows, **written, processor_kwargs={"padding": True, "padding_side": "right"})
    question = processor.apply_chat_template([rows[0][:2]], add_generation_prompt=True, **written)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, : question["input_ids"].shape[1]] = -100
    net.train().requires_grad_(True)
    optimizer, loss, steps = torch.optim.AdamW(net.parameters(), lr=3e-3), float("inf"), 0
    while loss > 0.005 and steps < 600:
        output = net(**batch, labels=labels)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss, steps = output.loss.item(), steps + 1
    net.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [SYSTEM, extract_question(TEXT, "gmner4", PIXELS), *ANSWERS] * 3
    found = save_qwen_vl(tmp_path_factory.mktemp("qwen"), texts)
    teach(found)
    return found


def test_local_extractor_tells_two_pictures_apart(folder: Path) -> None:
    first, second = local(folder).run([request(), request("b" * 64)], Media(images=PICTURES))
    assert [mention.text for mention in first.mentions] == ["Ada", "Bob"]
    assert [place.box for place in first.places] == [(0, 0, 28, 56), None]
    assert [mention.text for mention in second.mentions] == ["Bob"] and first.notices == second.notices == ()


def test_local_extractor_without_list_asks_again_and_raises_e300(folder: Path, tmp_path: Path) -> None:
    drawn = save_qwen_vl(tmp_path, ["ada runs in rome"] * 3)
    with pytest.raises(ToolUnavailable, match="E300"):
        local(drawn, max_tokens=4).run([request()], Media(images=PICTURES))
    with pytest.raises(NamepinError, match="E120"):
        local(folder).run([request()], Media())


def test_local_extractor_fingerprint_covers_settings_but_not_the_folder(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "moved"
    other.symlink_to(folder)
    assert local(folder).fingerprint == local(other).fingerprint
    assert local(folder).fingerprint != local(folder, scheme="fmnerg8").fingerprint


def test_local_extractor_with_missing_or_foreign_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match=r"E210.*adapter"):
        local(folder, adapter=str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NamepinError, match="E210"):
        local(folder, adapter=str(tmp_path / "empty"))


@pytest.mark.slow
def test_mllm_graph_on_transformers_serve_gives_each_picture_its_names(tmp_path: Path) -> None:
    # transformers' own processor of Qwen-VL needs torchvision; a LLaVA answers in the same form.
    frame = BoxFrame("thousand", (256, 256), (64, 64))
    said = [write_answer([ADA, BOB], frame), write_answer([BOB], frame)]
    shown = {said[0]: Image.new("RGB", (64, 64), "red"), said[1]: Image.new("RGB", (64, 64), "blue")}
    tiny_vlm.train(tmp_path / "model", extract_question(TEXT, "gmner4", frame), shown, system=SYSTEM)
    with tiny_chat.serve(tmp_path / "model") as url:
        chosen = {"model": str(tmp_path / "model"), "base_url": url, "frame": "thousand", "guide": "none"}
        extractor = {**chosen, "cache": False, "retries": 0, "timeout_s": 600, "max_tokens": 100}
        overrides = {"extractor": extractor, "segmenter": {"backend": "grabcut"}}
        pin = Namepin(load_settings("mllm", overrides=overrides, environment={}))
        red, blue = (pin.extract({"id": "p", "text": TEXT}, image) for image in shown.values())
    ada, bob = red.entities
    assert ada.box == pytest.approx((0, 0, 28, 56), abs=0.1) and (bob.text, bob.box) == ("Bob", None)
    assert [(entity.text, entity.groundable) for entity in blue.entities] == [("Bob", False)]
    assert red.status == blue.status == "ok"


@pytest.mark.slow
def test_mllm_graph_with_qwen_vl_on_transformers_serve_gives_each_picture_its_names(folder: Path) -> None:
    pytest.importorskip("torchvision", reason="transformers' own processor of Qwen-VL reads videos with torchvision")
    with tiny_chat.serve(folder) as url:
        chosen = {"model": str(folder), "base_url": url, "frame": "pixels", "guide": "none", "min_pixels": 3136}
        extractor = {**chosen, "cache": False, "retries": 0, "timeout_s": 600, "max_tokens": 64}
        overrides = {"extractor": extractor, "segmenter": {"backend": "grabcut"}}
        pin = Namepin(load_settings("mllm", overrides=overrides, environment={}))
        red, blue = (pin.extract({"id": "p", "text": TEXT}, image) for image in PICTURES.values())
    ada, bob = red.entities
    assert ada.box == pytest.approx((0, 0, 28, 56)) and (bob.text, bob.box) == ("Bob", None)
    assert [(entity.text, entity.groundable) for entity in blue.entities] == [("Bob", False)]
    assert red.status == blue.status == "ok"
