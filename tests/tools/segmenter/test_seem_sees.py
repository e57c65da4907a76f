"""SEEM told of a mention's place and category, or of the category alone."""

from pathlib import Path

import pytest

from namepin.tools.interfaces import Query, SegmentPrompt, SegmentRequest
from namepin.tools.media import Media
from namepin.tools.models.config import SeemConfig
from namepin.tools.segmenter.config import SeemSegmenterConfig
from namepin.tools.segmenter.seem import SeemSegmenter, ask_of
from support import tiny_seem
from support.tiny_sam import PICTURE, image_ref

QUERY = Query(text="Ada", label="PER", category="athlete")


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_seem.save(tiny_seem.tiny_net(), tmp_path_factory.mktemp("seem"))


def a_tool(nets: tuple[Path, Path], sees: str) -> SeemSegmenter:
    weights, tokenizer = map(str, nets)
    seem = {"weights": weights, "tokenizer": tokenizer, "short_side": 64, "long_side": 128, "sees": sees}
    return SeemSegmenter(SeemSegmenterConfig(seem=SeemConfig.model_validate(seem)))


def test_ask_of_words_alone_has_no_place() -> None:
    prompt = SegmentPrompt(query=QUERY, peak=(5, 6))
    both, words = ask_of(prompt, (50, 30)), ask_of(prompt, (50, 30), "words")
    assert both.point == (5, 6) and (words.point, words.box) == (None, None)
    assert both.words == words.words == "athlete"


def test_seem_by_words_alone_ignores_the_place(nets: tuple[Path, Path]) -> None:
    ref = image_ref(PICTURE)
    prompts = tuple(SegmentPrompt(query=QUERY, peak=peak) for peak in ((2, 2), (40, 25)))
    request, media = SegmentRequest(image=ref, prompts=prompts), Media(images={ref.sha256: PICTURE})
    words = a_tool(nets, "words")
    (found,) = words.run([request], media)
    assert found.segments[0] == found.segments[1]
    assert words.fingerprint != a_tool(nets, "both").fingerprint
