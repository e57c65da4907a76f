"""Experiments in LangSmith, against a server on loopback that keeps what LangSmith's own client sends."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from langsmith import testing
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.config.settings import Settings
from namepin.agent.workflows.predict import predict_with
from namepin.evals.datasets.gold import Dataset
from namepin.evals.langsmith import Experiment
from namepin.evals.report.full import score_of
from namepin.evals.run import load_dataset
from namepin.evals.scoring.evaluate import TASKS, evaluate
from namepin.evals.scoring.predictions import Predictions
from namepin.graphs.calls import LiveCalls
from namepin.graphs.recording.replay import replay
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.interfaces import TagRequest, Tags
from namepin.tools.media import Media
from support.capital_tagger import CapitalTagger
from support.eval_samples import gmner_folder
from support.langsmith_server import Store, langsmith_server
from support.paths import CASSETTES

SECRET = "lsv2_pt_0123456789abcdef"
TEXT = "IMGID:1\nAda\tB-PER\nmet\tO\nBob\tB-PER\n\nIMGID:2\nHi\tO\nall\tO\n\nIMGID:3\nnothing\tO\n\n"


class Tagger(CapitalTagger):
    """Breaks down at one post, with a path in its message."""

    def run(self, requests: Sequence[TagRequest], media: Media) -> list[Tags]:
        if any(request.text == "nothing" for request in requests):
            raise OSError(f"no weights at {Path(__file__).parent} for {SECRET.replace('lsv2_pt_', 'sk-')}")
        return super().run(requests, media)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with langsmith_server() as store:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", store.address)
        monkeypatch.setenv("LANGSMITH_API_KEY", SECRET)
        yield store


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    root = gmner_folder(tmp_path / "home of pictures", TEXT)
    (root / "images").mkdir()
    Image.new("RGB", (100, 80), "red").save(root / "images" / "1.jpg")
    return load_dataset("gmner", root, "dev")


def run(data: Dataset, experiment: Experiment) -> Predictions:
    pin = Namepin(Settings(profile="test"), LiveCalls({"tagger": Tagger()}))
    return predict_with(pin, data, through=experiment.predict)


def test_experiment_uploads_dataset_examples_runs_and_scores(server: Store, data: Dataset, tmp_path: Path) -> None:
    found = run(data, Experiment("tweets", "images"))
    plain = predict_with(Namepin(Settings(profile="test"), LiveCalls({"tagger": Tagger()})), data)
    assert found.entities == plain.entities and found.failed == plain.failed == ("3",)

    (made,) = server.datasets
    assert made["name"] == "tweets"
    examples = {e["inputs"]["id"]: e for e in server.examples.values()}
    assert examples["1"]["inputs"] == {"id": "1", "text": "Ada met Bob", "tokens": ["Ada", "met", "Bob"]}
    assert [(e["text"], e["label"]) for e in examples["1"]["outputs"]["entities"]] == [("Ada", "PER"), ("Bob", "PER")]
    picture = (Path(tmp_path) / "home of pictures" / "images" / "1.jpg").read_bytes()
    assert server.attachments == {f"{examples['1']['id']}.attachment.picture": ("image/jpeg", picture)}

    (session,) = server.sessions
    assert session["reference_dataset_id"] == made["id"] and session["name"].startswith("tweets-")
    roots = {run["inputs"]["id"]: run for run in server.roots()}
    assert {run["reference_example_id"] for run in roots.values()} == set(server.examples)
    assert [e["text"] for e in roots["1"]["outputs"]["entities"]] == ["Ada", "Bob"]
    assert "tag" in {run["name"] for run in server.runs.values()}, "the graph's steps are traced"

    report = evaluate(data, plain)
    expected = {f"{task}.f1": score.f1 for task in TASKS if (score := score_of(report, task))}
    summary = {f["key"]: f["score"] for f in server.feedback if not f.get("run_id")}
    assert summary == expected and expected["mner.f1"] == 0.8
    by_post = {(f["run_id"], f["key"]): f["score"] for f in server.feedback if f.get("run_id")}
    assert by_post[(roots["1"]["id"], "mner.f1")] == 1 and by_post[(roots["2"]["id"], "span.f1")] == 0


def test_experiment_bodies_contain_no_key_or_path(server: Store, data: Dataset) -> None:
    run(data, Experiment("tweets", "texts"))
    assert server.keys == {SECRET} and not server.attachments
    sent = b"".join(server.bodies)
    assert b"no weights at" in sent, "the failure itself is traced"
    for secret in (SECRET, SECRET.removeprefix("lsv2_pt_"), "home of pictures", str(Path.home()), str(Path.cwd())):
        assert secret.encode() not in sent
    assert b"author" not in sent and b"remote_url" not in sent


def test_experiment_second_run_uploads_missing_examples_only(server: Store, data: Dataset) -> None:
    run(data.only(["1"]), Experiment("tweets"))
    (first,) = server.examples
    run(data, Experiment("tweets"))
    assert len(server.datasets) == 1 and len(server.sessions) == 2
    assert len(server.examples) == 3 and first in server.examples
    with pytest.raises(NamepinError, match="E322.*without its picture"):
        run(data, Experiment("tweets", "images"))
    server.examples[first]["outputs"] = {"entities": []}
    with pytest.raises(NamepinError, match="E322.*another text or gold"):
        run(data, Experiment("tweets"))


def test_experiment_without_upload_scores_locally_and_sends_nothing(
    server: Store, data: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("LANGSMITH_API_KEY")
    found = run(data, Experiment("tweets", "nothing"))
    assert found.entities["1"] and not server.bodies and not server.keys
    assert not [r for r in caplog.records if r.levelname == "ERROR" and "Connection" in r.getMessage()]


def test_experiment_refused_raises_e321_or_e320(server: Store, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    server.refuse = True
    with pytest.raises(NamepinError, match="E321") as refused:
        run(data, Experiment("tweets"))
    assert refused.value.exit_code is Exit.UNREACHABLE and SECRET not in str(refused.value)
    monkeypatch.delenv("LANGSMITH_API_KEY")
    with pytest.raises(NamepinError, match="E320"):
        run(data, Experiment("tweets"))


@pytest.mark.langsmith
@pytest.mark.parametrize("cassette", sorted(path.name for path in CASSETTES.iterdir() if path.is_dir()))
def test_cassette_replays_under_langsmith_tracking(cassette: str) -> None:
    """With LANGSMITH_TEST_TRACKING=true, each cassette is an example, and its posts are the outputs."""
    testing.log_inputs({"cassette": cassette})
    results = list(replay(CASSETTES / cassette, check=True))
    testing.log_outputs({"posts": [result.model_dump(mode="json") for result in results]})
    testing.log_feedback(key="posts", score=len(results))
    assert results and all(result.status != "failed" for result in results)
