"""One model behind GEM's gate: what goes to it, the merge, and sweeps of gamma from one recording."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.config.settings import Settings, load_settings
from namepin.graphs import fallback
from namepin.graphs.calls import LiveCalls
from namepin.graphs.fallback import PLACE, TYPE, merge
from namepin.graphs.policy import GatePolicy, MatchPolicy
from namepin.graphs.recording.recorder import Recorder
from namepin.graphs.recording.replay import replay
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.extractor.answer import Answer, AnswerItem
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.result import extracted
from namepin.tools.interfaces import (
    Extracted,
    ExtractRequest,
    Match,
    Matches,
    MatchRequest,
    Segment,
    SegmentRequest,
    Segments,
    TagRequest,
    Tags,
)
from namepin.tools.media import Media
from namepin.tools.types import Entity, Extraction, Mask, Mention
from support.scripted_tools import Scripted

TEXT = "Ada met Bob in Oslo with Cleo"
PICTURE = Image.new("RGB", (64, 48), "teal")
ENTROPY = {"Ada": 0.05, "Bob": 1.2, "Oslo": 0.4}
SCORE = {"Ada": 0.9, "Bob": 0.2, "Oslo": 0.45}


class Tagger(Scripted):
    """Finds the names of `ENTROPY`; Bob it takes for a place."""

    name = "tagger"

    def answer(self, request: TagRequest, media: Media) -> Tags:
        tokens = tuple(request.text.split())
        mentions = []
        for name, entropy in ENTROPY.items():
            start, at = TEXT.index(name), tokens.index(name)
            span = {"start": start, "end": start + len(name), "token_span": (at, at + 1)}
            label = "PER" if name == "Ada" else "LOC"
            scores = {label: 0.6, "ORG": 0.4}
            mentions.append(
                Mention(index=len(mentions), text=name, label=label, scores=scores, entropy=entropy, **span)
            )
        return Tags(tokens=tokens, mentions=tuple(mentions))


class Matcher(Scripted):
    name = "matcher"

    def answer(self, request: MatchRequest, media: Media) -> Matches:
        return Matches(
            matches=tuple(Match(score=SCORE[q.text], region=(0, 0, 8, 8), kind="face") for q in request.queries)
        )


class Segmenter(Scripted):
    name = "segmenter"

    def answer(self, request: SegmentRequest, media: Media) -> Segments:
        found = []
        for prompt in request.prompts:
            assert prompt.box is not None
            x1, y1, x2, y2 = map(int, prompt.box)
            pixels = np.zeros((48, 64), dtype=bool)
            pixels[y1:y2, x1:x2] = True
            found.append(Segment(mask=Mask.from_array(pixels), box=prompt.box, score=0.9))
        return Segments(segments=tuple(found))


class Model(Scripted):
    """Knows that Bob is a person, where Oslo is, and Cleo, whom the tagger misses."""

    name = "extractor"

    def answer(self, request: ExtractRequest, media: Media) -> Extracted:
        items = (
            AnswerItem("Ada", "ORG", None, [30, 30, 40, 40]),
            AnswerItem("Bob", "PER", None, None),
            AnswerItem("Oslo", "LOC", None, [10, 10, 20, 20]),
            AnswerItem("Cleo", "PER", None, [20, 0, 50, 40]),
        )
        frame = BoxFrame("pixels", (64, 48), (64, 48)) if request.image else None
        return extracted(request, Answer(items=items), frame, "extractor")


def pin(gamma: float = 0.8, margin: float = 0.1, model: Scripted | None = None, **tools: Scripted) -> Namepin:
    filled = {"tagger": Tagger(), "matcher": Matcher(), "segmenter": Segmenter(), **tools}
    filled = {role: tool for role, tool in filled.items() if tool is not None} | {"extractor": model or Model()}
    gate, match = GatePolicy(gamma=gamma), MatchPolicy(margin=margin)
    settings = Settings(profile="test", graph="gem", fallback="mllm", gate=gate, match=match)
    return Namepin(settings, LiveCalls(filled))


def names(found: Extraction) -> dict[str, tuple[str, Any, Any]]:
    return {entity.text: (entity.label, entity.groundable, entity.box) for entity in found.entities}


def test_fallback_sure_post_keeps_cheap_path_without_a_call() -> None:
    model = Model()
    found = pin(gamma=2, margin=0.01, model=model).extract({"id": "p", "text": TEXT}, PICTURE)
    assert model.seen == [] and "Cleo" not in names(found)
    assert names(found)["Bob"] == ("LOC", False, None)


def test_fallback_uncertain_post_is_merged_by_the_rule() -> None:
    found = pin().extract({"id": "p", "text": TEXT}, PICTURE)
    assert names(found) == {
        "Ada": ("PER", True, (0, 0, 8, 8)),  # sure: the cheap path's
        "Bob": ("PER", False, None),  # unsure type: the model's
        "Oslo": ("LOC", True, (10, 10, 20, 20)),  # sure type, match near its threshold: the model's place
        "Cleo": ("PER", True, (20, 0, 50, 40)),  # the model's alone
    }
    by_name = {entity.text: entity for entity in found.entities}
    assert by_name["Ada"].provenance == ("tagger", "matcher", "segmenter")
    assert by_name["Oslo"].provenance == ("tagger", "matcher", "extractor", "segmenter")
    assert by_name["Cleo"].mask is not None and by_name["Cleo"].mask.tight_box() == (20, 0, 50, 40)


def test_fallback_match_near_threshold_alone_sends_the_post() -> None:
    model = Model()
    found = pin(gamma=2, margin=0.1, model=model).extract({"id": "p", "text": TEXT}, PICTURE)
    assert len(model.seen) == 1 and names(found)["Oslo"][2] == (10, 10, 20, 20)
    assert names(found)["Bob"] == ("LOC", False, None)  # its type and its place are sure


def test_fallback_that_cannot_tell_sends_the_post() -> None:
    class Blind(Matcher):
        def answer(self, request: MatchRequest, media: Media) -> Matches:
            return Matches(matches=tuple(Match(score=0.0, can_tell=False) for _ in request.queries))

    found = pin(gamma=2, margin=0, matcher=Blind()).extract({"id": "p", "text": TEXT}, PICTURE)
    assert names(found)["Ada"] == ("PER", True, (30, 30, 40, 40))


def test_fallback_text_only_post_takes_types_and_names_of_the_model() -> None:
    found = pin().extract({"id": "p", "text": TEXT})
    assert {name: label for name, (label, _, _) in names(found).items()} == {
        "Ada": "PER",
        "Bob": "PER",
        "Oslo": "LOC",
        "Cleo": "PER",
    }
    assert all(groundable is None for _, groundable, _ in names(found).values())


def test_fallback_with_model_down_keeps_cheap_result_and_degrades() -> None:
    down = Model(fail=lambda attempt: ToolUnavailable("extractor", "no answer in time"))
    found = pin(model=down).extract({"id": "p", "text": TEXT}, PICTURE)
    assert found.status == "degraded" and [notice.code for notice in found.warnings] == ["W103"]
    assert names(found)["Bob"] == ("LOC", False, None) and len(found.entities) == 3


def entity(text: str, span: tuple[int, int], label: Any = "PER", **fields: Any) -> Entity:
    return Entity(text=text, start=0, end=len(text), token_span=span, label=label, **fields)


def test_merge_drops_model_entities_that_overlap_kept_ones_and_doubted_ones_it_denies() -> None:
    cheap = [entity("Ada", (0, 1)), entity("Oslo", (3, 4), "LOC"), entity("Bob", (5, 6))]
    model = [entity("Ada X", (0, 2)), entity("Oslo B", (3, 5), "ORG")]
    merged = merge(cheap, [[], [TYPE, PLACE], [TYPE]], model)
    assert [(one.text, one.label) for one in merged] == [("Ada", "PER"), ("Oslo B", "ORG")]


def test_fallback_gamma_sweeps_from_one_recording_without_a_call(tmp_path: Path) -> None:
    recorded = pin(gamma=0, margin=0.1)
    with Recorder(tmp_path / "tape", graph=recorded.graph.name, profile=recorded.settings.dump()) as recorder:
        for image in (PICTURE, None):
            post = {"id": "shown" if image else "bare", "text": TEXT}
            list(recorded.stream(post, image, recorder=recorder))
    assert len(list(replay(tmp_path / "tape", check=True))) == 2
    for gamma, margin in ((0.2, 0.1), (0.8, 0.1), (2.0, 0.0)):
        fresh = pin(gamma, margin)
        for found in replay(tmp_path / "tape", sets={"gate.gamma": gamma, "match.margin": margin}):
            image = PICTURE if found.id == "shown" else None
            assert names(found) == names(fresh.extract({"id": found.id, "text": TEXT}, image))
    shutil.rmtree(tmp_path / "tape")


def test_fallback_of_another_graph_or_name_is_e203() -> None:
    for overrides in ({"graph": "riveg", "fallback": "mllm"}, {"fallback": "riveg"}):
        with pytest.raises(NamepinError, match="E203"):
            load_settings("starter", overrides=overrides, environment={})
    chosen = load_settings("starter", overrides={"fallback": "mllm"}, environment={})
    assert chosen.graph_key == "gem+mllm" and load_settings(base=chosen.dump()).fallback == "mllm"
    assert "fallback" not in load_settings("starter", environment={}).dump()


def test_fallback_graph_has_doubt_and_consult_before_segment() -> None:
    drawn = fallback.mermaid()
    assert "trace --> doubt" in drawn and "doubt -.-> consult" in drawn and "consult -.-> segment" in drawn
