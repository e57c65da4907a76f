"""From a data set through the graph to a report, with small tools and the real graph."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.config.settings import Settings, ToolSettings
from namepin.agent.render.html import About
from namepin.agent.render.report_traces import Traces
from namepin.agent.workflows.predict import evaluated_pin, predict_with
from namepin.evals.report.full import full_report
from namepin.evals.report.html import write_page
from namepin.evals.run import load_dataset, recorded_knowledge
from namepin.evals.scoring.evaluate import evaluate
from namepin.evals.scoring.predictions import Predictions
from namepin.graphs.calls import LiveCalls
from namepin.graphs.policy import MatchPolicy
from namepin.tools.errors import NamepinError
from namepin.tools.examples.config import ExamplesConfig
from namepin.tools.interfaces import Knowledge, KnowledgeRequest, Match, Matches, MatchRequest, TagRequest, Tags
from namepin.tools.knowledge.chat import RecordedKnowledge
from namepin.tools.knowledge.config import KnowledgeConfig
from namepin.tools.media import Media
from namepin.tools.types import Extraction
from support.capital_tagger import CapitalTagger
from support.eval_samples import gmner_folder, write_rows


def pin(**recorded: str) -> Namepin:
    tools = {"tagger": CapitalTagger()}
    known = {"knowledge": RecordedKnowledge(recorded)} if recorded else {}
    return Namepin(Settings(profile="test"), LiveCalls({**tools, **known}))


TEXT = "IMGID:1\nAda\tB-PER\nmet\tO\nBob\tB-PER\n\nIMGID:2\nHi\tO\nall\tO\n"


def test_predict_without_pictures_scores_text_and_skips_grounding(tmp_path: Path) -> None:
    data = load_dataset("gmner", gmner_folder(tmp_path, TEXT), "dev")
    seen: list[str] = []
    report = evaluate(data, predict_with(pin(), data, lambda extraction: seen.append(extraction.id)))
    assert seen == ["1", "2"]
    assert report.mner is not None and (report.mner.correct, report.mner.predicted, report.mner.gold) == (2, 3, 2)
    assert report.gmner is None and any("not evaluated" in note for note in report.notes)
    assert not [problem for problem in report.problems if problem["code"] != "E133"]


def test_predict_with_recorded_knowledge_passes_it_to_tagger(tmp_path: Path) -> None:
    root = gmner_folder(tmp_path, TEXT)
    (root / "knowledge").mkdir()
    rows = [{"id": "1", "model": "m", "knowledge": "about Ada and Bob"}, {"id": "2", "model": "m", "knowledge": "none"}]
    write_rows(root / "knowledge" / "dev.jsonl", rows)
    data = load_dataset("gmner", root, "dev")
    known = recorded_knowledge(root, "dev", data)
    assert known == {"Ada met Bob": "about Ada and Bob", "Hi all": "none"}
    report = evaluate(data, predict_with(pin(**known), data))
    assert report.mner is not None and report.mner.f1 == 1


@pytest.mark.parametrize("rows", [["{"], [{"id": "1", "knowledge": "x"}], [{"id": "1"}]])
def test_recorded_knowledge_without_post_raises_e134(tmp_path: Path, rows: list[object]) -> None:
    root = gmner_folder(tmp_path, TEXT)
    (root / "knowledge").mkdir()
    write_rows(root / "knowledge" / "dev.jsonl", rows)
    with pytest.raises(NamepinError, match="E134"):
        recorded_knowledge(root, "dev", load_dataset("gmner", root, "dev"))


class Explainer(RecordedKnowledge):
    """Says what its words have cost."""

    def run(self, requests: Sequence[KnowledgeRequest], media: Media) -> list[Knowledge]:
        return [k.model_copy(update={"prompt_tokens": 7, "completion_tokens": 2}) for k in super().run(requests, media)]


def test_predict_sums_reported_tokens_by_tool(tmp_path: Path) -> None:
    data = load_dataset("gmner", gmner_folder(tmp_path, TEXT), "dev")
    tools = {"tagger": CapitalTagger(), "knowledge": Explainer({"Ada met Bob": "x", "Hi all": "y"})}
    assert predict_with(Namepin(Settings(profile="test"), LiveCalls(tools)), data).tool_tokens == {"knowledge": (14, 4)}


def test_evaluated_pin_with_knowledge_off_drops_knowledge_and_examples() -> None:
    config = KnowledgeConfig(model="m", base_url="http://127.0.0.1:9/v1")
    examples = ToolSettings(backend="annotated", config=ExamplesConfig())
    chosen = {"examples": examples, "knowledge": ToolSettings(backend="chat", config=config)}
    settings = Settings(profile="test", tools=chosen)
    assert not evaluated_pin(settings, "off", {}).settings.tools, "examples are for its prompt alone"
    assert "knowledge" in evaluated_pin(settings, "live", {}).settings.tools


class CountingTagger(CapitalTagger):
    """Counts the posts that it reads: how many share a call is a matter of chance."""

    def __init__(self) -> None:
        self.posts = 0

    def run(self, requests: Sequence[TagRequest], media: Media) -> list[Tags]:
        self.posts += len(requests)
        return super().run(requests, media)


def interrupt(_: Extraction) -> None:
    """As Ctrl-C after a post."""
    raise KeyboardInterrupt


def test_predict_resumes_interrupted_run_from_saved_rows(tmp_path: Path) -> None:
    data = load_dataset("gmner", gmner_folder(tmp_path, TEXT), "dev")
    saved = tmp_path / "saved.jsonl"
    first, second, third = CountingTagger(), CountingTagger(), CountingTagger()

    def run(tagger: CountingTagger, done: Callable[[Extraction], None] | None = None) -> Predictions:
        return predict_with(Namepin(Settings(profile="test"), LiveCalls({"tagger": tagger})), data, done, saved)

    with pytest.raises(KeyboardInterrupt):
        run(first, interrupt)
    assert len(saved.read_text().splitlines()) == 1
    with saved.open("a") as file:
        file.write('{"id": "2", "te')
    with saved.open("a") as file:
        file.write("\n")
    resumed = run(second)
    assert second.posts == 1
    assert evaluate(data, resumed) == evaluate(data, predict_with(pin(), data))
    third_result = run(third)
    assert third.posts == 0 and third_result.entities == resumed.entities
    CountingTagger.fingerprint = "another"
    run(third)
    assert third.posts == 2


def test_report_links_wrong_posts_to_trace_pages(tmp_path: Path) -> None:
    data = load_dataset("gmner", gmner_folder(tmp_path, TEXT), "dev")
    saved, report = tmp_path / "run.jsonl", tmp_path / "report.html"
    found = predict_with(pin(), data, None, saved)
    pictures = {gold.post.id: gold.post.image for gold in data.posts}
    traces = Traces(report, saved, pictures, About("test", 0.2))
    write_page(report, data, found, full_report(data, found), "test", traces)
    assert '<a href="report-traces/2.html">' in report.read_text()
    assert [file.name for file in (tmp_path / "report-traces").iterdir()] == ["2.html"], "post 1 has no error"
    trace = (tmp_path / "report-traces" / "2.html").read_text()
    assert "Hi" in trace and "tagger" in trace
    assert traces("unknown") is None


class BlindMatcher:
    """Can tell of nothing."""

    name, version, fingerprint = "matcher", 1, "blind"

    def run(self, requests: Sequence[MatchRequest], media: Media) -> list[Matches]:
        return [Matches(matches=tuple(Match(score=0, can_tell=False) for _ in r.queries)) for r in requests]


@pytest.mark.parametrize(("unknown", "groundable"), [("absent", False), ("present", True)])
def test_cannot_tell_is_scored_as_the_policy_says_and_saved_as_unknown(
    tmp_path: Path, unknown: Literal["absent", "present"], groundable: bool
) -> None:
    root = gmner_folder(tmp_path, TEXT)
    (root / "images").mkdir(exist_ok=True)
    Image.new("RGB", (16, 16)).save(root / "images" / "1.jpg")
    data = load_dataset("gmner", root, "dev").only({"1"})
    settings = Settings(profile="test", match=MatchPolicy(unknown=unknown))
    own = Namepin(settings, LiveCalls({"tagger": CapitalTagger(), "matcher": BlindMatcher()}))
    found = predict_with(own, data, saved=tmp_path / "saved.jsonl")
    assert [p.groundable for p in found.entities["1"]] == [groundable, groundable]
    assert found.cannot_tell_count == 2
    (saved,) = map(json.loads, (tmp_path / "saved.jsonl").read_text("utf-8").splitlines())
    assert [entity["groundable"] for entity in saved["entities"]] == [None, None]
