"""BLIP on referring expressions: scores against transformers one text at a time, weights shared with the matcher."""

from pathlib import Path

import pytest
import torch

from namepin.tools.entailment.blip import BlipEntailment
from namepin.tools.entailment.config import BlipEntailmentConfig
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.images.tensors import squash
from namepin.tools.interfaces import Entailments, EntailRequest, ReferringQuery
from namepin.tools.matcher.blip import BlipMatcher
from namepin.tools.matcher.config import BlipMatcherConfig
from namepin.tools.media import Media
from namepin.tools.models.config import BlipConfig
from support import tiny_blip
from support.tiny_blip import PICTURE, VOCABULARY, image_ref

REF = image_ref(PICTURE)
MEDIA = Media(images={REF.sha256: PICTURE})
EXPRESSIONS = ("Ada (PER) – a woman", "NASA (ORG) – logo", "b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip.save_folder(tiny_blip.tiny_net(), tmp_path_factory.mktemp("blip"))


def a_tool(folder: Path, **settings: object) -> BlipEntailment:
    return BlipEntailment(
        BlipEntailmentConfig(blip=BlipConfig.model_validate({"weights": str(folder), "max_text_tokens": 60} | settings))
    )


def a_request(*expressions: str) -> EntailRequest:
    queries = [ReferringQuery(text="Ada", label="PER", category="PER", expression=text) for text in expressions]
    return EntailRequest(image=REF, text="a post", queries=tuple(queries))


def scores(found: Entailments) -> list[float]:
    return [entailment.score for entailment in found.entailments]


def test_blip_entailment_scores_equal_transformers_single_texts(folder: Path) -> None:
    found = a_tool(folder).run([a_request(*EXPRESSIONS)], MEDIA)[0]
    net, pixels = tiny_blip.tiny_net(), squash(PICTURE, 64)[None]
    for expression, entailment in zip(EXPRESSIONS, found.entailments, strict=True):
        ids = torch.tensor([tiny_blip.tiny_tokenizer()(expression)["input_ids"]])
        ids[0, 0] = VOCABULARY - 1
        with torch.no_grad():
            logits = net(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).itm_score[0]
        assert entailment.score == pytest.approx(float(logits.softmax(0)[1]), rel=1e-5)
        assert entailment.label == ("entailment" if logits[1] >= logits[0] else "contradiction")


def test_blip_entailment_and_matcher_share_weights(folder: Path) -> None:
    tool = a_tool(folder)
    matcher = BlipMatcher(BlipMatcherConfig(blip=tool.config.blip))
    assert matcher.blip is tool.blip and matcher.fingerprint != tool.fingerprint


def test_blip_entailment_with_forty_queries_in_chunks_equals_single_queries(folder: Path) -> None:
    texts = [f"name {i} (PER) – a b c d" for i in range(39)]
    found = a_tool(folder, text_batch=7).run([a_request(*texts, "Ada " * 200)], MEDIA)[0]
    assert len(found.entailments) == 40
    assert scores(found)[::13] == pytest.approx(
        [scores(a_tool(folder).run([a_request(text)], MEDIA)[0])[0] for text in [*texts, "Ada " * 200][::13]], rel=1e-5
    )
    assert [notice.code for notice in found.notices] == ["W145"] and "of 1 expr" in found.notices[0].message


def test_blip_tokenizer_reads_special_tokens_in_text_as_letters(folder: Path) -> None:
    texts, cut = a_tool(folder).blip.texts.plain(["a [SEP] b [PAD]"])
    assert not cut and [tiny_blip.WORDS[i] for i in texts.ids[0][1:]] == ["a", "b", "[SEP]"]


def test_blip_entailment_without_queries_or_words_returns_none_or_raises(folder: Path) -> None:
    assert a_tool(folder).run([a_request()], Media()) == [Entailments(entailments=())]
    for expression in ("", " – ()"):
        with pytest.raises(NamepinError, match="E109"):
            a_tool(folder).run([a_request("fine", expression)], MEDIA)
    with pytest.raises(NamepinError, match="E120"):
        a_tool(folder).run([a_request("fine")], Media())


def test_blip_entailment_with_nan_weights_raises_e300(tmp_path: Path) -> None:
    net = tiny_blip.tiny_net()
    with torch.no_grad():
        net.itm_head.weight.fill_(float("nan"))
    with pytest.raises(ToolUnavailable, match="E300.*nan, not a probability"):
        a_tool(tiny_blip.save_folder(net, tmp_path)).run([a_request(*EXPRESSIONS)], MEDIA)
