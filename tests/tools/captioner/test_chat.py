"""The captioner against a real server: a tiny LLaVA, trained here, that tells two pictures apart."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from namepin.tools.captioner.chat import PROMPT, ChatCaptioner
from namepin.tools.captioner.config import CaptionerConfig
from namepin.tools.errors import ToolUnavailable
from namepin.tools.interfaces import CaptionRequest
from namepin.tools.llm.content import data_url
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from support import tiny_chat, tiny_vlm

SUNSET = Image.new("RGB", (200, 120), (230, 60, 20))
SEA = Image.new("RGB", (90, 90), (10, 40, 220))
CAPTIONS = {"a red evening sky": SUNSET, "the blue sea at noon": SEA}
SHAS = ("a" * 64, "b" * 64)
MEDIA = Media(images=dict(zip(SHAS, CAPTIONS.values(), strict=True)))
REQUESTS = [
    CaptionRequest(image=ImageRef(sha256=sha, width=image.width, height=image.height))
    for sha, image in MEDIA.images.items()
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-vlm")
    tiny_vlm.train(folder, PROMPT, CAPTIONS)
    return folder


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with tiny_chat.serve(model) as address:
        yield address


def captioner(url: str, model: Path, folder: Path, **changes: object) -> ChatCaptioner:
    given = {"model": str(model), "base_url": url, "retries": 0, "timeout_s": 600, "cache_dir": folder}
    return ChatCaptioner(CaptionerConfig.model_validate(given | changes))


def test_chat_captioner_with_real_model_distinguishes_two_pictures(url: str, model: Path, tmp_path: Path) -> None:
    tool = captioner(url, model, tmp_path)
    found = tool.run([*REQUESTS, REQUESTS[0]], MEDIA)
    assert [caption.text for caption in found] == [*CAPTIONS, "a red evening sky"]
    gone = captioner("http://127.0.0.1:9/v1", model, tmp_path)
    assert gone.run(REQUESTS, MEDIA) == found[:2]  # from the disk
    with pytest.raises(ToolUnavailable, match="no connection") as failure:
        captioner("http://127.0.0.1:9/v1", model, tmp_path, cache=False).run(REQUESTS, MEDIA)
    assert failure.value.tool == "captioner"


def test_data_url_downscales_pictures_and_never_upscales() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 300, 3), dtype=np.uint8))
    assert sent(data_url(noise, 100)).size == (100, 10)
    assert sent(data_url(noise, 1024)).size == (300, 30)
    assert sent(data_url(Image.new("RGB", (5000, 1)), 64)).size == (64, 1)


def sent(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))
