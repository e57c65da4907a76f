"""Estimates: exact arithmetic, and measurements of tools with known cost."""

import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from namepin.agent.batch.source import Source
from namepin.agent.config.sections import EstimateSettings
from namepin.agent.config.settings import load_settings
from namepin.agent.estimate.model import Hardware, Pool, Stage, Work, bounds, bounds_of_pools, estimate
from namepin.agent.estimate.page import amount, describe_estimate, duration
from namepin.agent.estimate.sample import draw_posts, estimate_batch, pools_of
from namepin.tools.errors import NamepinError
from namepin.tools.llm.usage import count_usage, record_usage
from support.batch_samples import write_posts
from support.cli import Cli
from support.loopback import JsonHandler, completion, serving

TEXT_ONLY = ("matcher.backend=off", "tracer.backend=off", "segmenter.backend=off")

WORK = Work(
    posts=50,
    failed=1,
    start_s=10.0,
    picture_s=0.01,
    graph_s=0.02,
    stages={
        "tagger": Stage(on="cores", calls=1, cpu_s=0.06, wall_s=0.03),
        "knowledge": Stage(
            on="server", calls=1, cpu_s=0.01, wall_s=2.0, answers=1.5, prompt_tokens=800, completion_tokens=100
        ),
        "reranker": Stage(
            on="server", calls=0.5, cpu_s=0.0, wall_s=0.5, answers=0.5, prompt_tokens=200, completion_tokens=10
        ),
        "segmenter": Stage(on="gpu", calls=1, cpu_s=0.1, wall_s=0.4),
    },
    wall_s=3.0,
    margin=0.1,
)
HERE = Hardware(machines=1, cores=2, gpus=1, servers=1, server_at_once=8, server_threads=8, posts_at_once=16)


def test_bounds_give_rate_of_each_resource() -> None:
    assert bounds(WORK, HERE) == pytest.approx(
        {"cores": 10, "graph": 50, "gpus": 2.5, "servers": 3.2, "server threads": 4, "posts at once": 16 / 3}
    )
    more = HERE.model_copy(update={"machines": 10, "servers": 4})
    assert bounds(WORK, more) == pytest.approx(
        {"cores": 100, "graph": 500, "gpus": 25, "servers": 12.8, "server threads": 40, "posts at once": 160 / 3}
    )


def test_bounds_omit_unused_resources() -> None:
    text = WORK.model_copy(update={"stages": {"tagger": WORK.stages["tagger"]}})
    assert bounds(text, HERE).keys() == {"cores", "graph", "posts at once"}


POOLS = (
    Pool(name="llm", roles=("knowledge",), actors=1, cpus=0.25, gpus=0),
    Pool(name="text", roles=("tagger",), actors=3, cpus=2, gpus=0),
    Pool(name="late llm", roles=("reranker",), actors=2, cpus=0.25, gpus=0),
    Pool(name="vision", roles=("segmenter", "matcher"), actors=4, cpus=1, gpus=0.5),
)


def test_bounds_of_pools_give_rate_of_each_pool() -> None:
    """A stage's own cores hold what a post costs there, its picture and its walk through the graph included."""
    four = HERE.model_copy(update={"machines": 4})
    found = bounds_of_pools(WORK, four, POOLS)
    assert found == pytest.approx(
        {
            "cores of llm": 1 / 0.04, "graph of llm": 50, "server threads of llm": 8 / 2,
            "posts at once of llm": 16 / 2.03,
            "cores of text": 6 / 0.09, "graph of text": 150, "posts at once of text": 48 / 0.06,
            "cores of late llm": 2 / 0.03, "graph of late llm": 100, "server threads of late llm": 16 / 0.5,
            "posts at once of late llm": 32 / 0.53,
            "cores of vision": 4 / 0.13, "graph of vision": 200, "gpus of vision": 2 / 0.4,
            "posts at once of vision": 64 / 0.43,
            "cores": 8 / 0.29, "gpus": 4 / 0.4, "servers": 8 / 2.5,
        }
    )  # fmt: skip
    expected = estimate(WORK, four, EstimateSettings(machine_hour=1.0), 3_200, pools=POOLS)
    assert (expected.bound_by, expected.seconds) == ("servers", pytest.approx(1_010))
    more = four.model_copy(update={"servers": 4})
    assert estimate(WORK, more, EstimateSettings(), 1, pools=POOLS).bound_by == "server threads of llm"


def test_pools_of_stages_beyond_machines_raise_e203() -> None:
    chosen = ("ray.text.actors=6", "ray.vision.actors=2", "ray.vision.gpus=0.5", "estimate.cores=4")
    fits = load_settings("starter", assignments=[*chosen, "estimate.machines=3"], environment={})
    text, vision = pools_of(fits)
    assert (text.roles, text.actors, vision.roles[0], vision.gpus) == (("tagger",), 6, "matcher", 0.5)
    for short in (("estimate.machines=2",), ("estimate.machines=3", "ray.vision.gpus=2")):
        with pytest.raises(NamepinError, match="E203.*the stages want"):
            pools_of(load_settings("starter", assignments=[*chosen, *short], environment={}))


def test_estimate_computes_time_tokens_and_money() -> None:
    prices = EstimateSettings(machine_hour=3.0, server_hour=2.0, million_prompt_tokens=0.5, million_completion_tokens=4)
    found = estimate(WORK, HERE, prices, 1_000_000, correction=0.8)
    assert (found.bound_by, found.posts_per_s) == ("gpus", pytest.approx(2.0))
    assert found.seconds == pytest.approx(500_010)
    assert (found.prompt_tokens, found.completion_tokens) == pytest.approx((1e9, 1.1e8))
    assert found.token_money == pytest.approx(500 + 440)
    assert found.machine_money == pytest.approx(500_010 / 3600 * 5)
    assert found.money == pytest.approx(found.token_money + found.machine_money)


def test_estimate_without_server_calls_costs_nothing() -> None:
    text = WORK.model_copy(update={"stages": {"tagger": WORK.stages["tagger"]}})
    assert estimate(text, HERE, EstimateSettings(server_hour=9.0), 1000).money == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7.25, "7.2 s"), (61, "1 min 1 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min"), (500_010, "5 d 18 h")],
)
def test_duration_formats_seconds_in_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_describe_estimate_names_bound_and_unknowns() -> None:
    found = estimate(WORK, HERE, EstimateSettings(), 1000)
    words = describe_estimate(found, WORK.model_copy(update={"unmetered": 3}))
    assert "posts/s: gpus 2.5, servers 3.2, server threads 4," in words
    assert "bound by: gpus" in words and "3 answers came without token counts" in words
    assert "give or take 10%" in words and "1,000,000 in, 110,000 out" in words and "1 of them failed" in words
    assert "busy" not in words and "load 6.9 per core" in describe_estimate(
        found, WORK.model_copy(update={"load": 6.94})
    )
    assert (amount(1234.5), amount(0.00071)) == ("1,234.50", "0.00071")


def test_draw_posts_is_seeded_and_draws_distinct_valid_posts(tmp_path: Path) -> None:
    path = write_posts(tmp_path / "posts.jsonl", 40)
    path.write_text(path.read_text() + "not JSON\n" * 20)
    chosen = [post.id for post in draw_posts(Source(str(path)), 30)]
    assert chosen == [post.id for post in draw_posts(Source(str(path)), 30)] and len(set(chosen)) == 30
    assert {post.id for post in draw_posts(Source(str(path)), 99, limit=3)} == {"p0000", "p0001", "p0002"}
    path.write_text("not JSON\n")
    with pytest.raises(NamepinError, match="E104"):
        draw_posts(Source(str(path)), 5)


def test_count_usage_counts_answers_within_block_only() -> None:
    record_usage(1, 1)
    with count_usage() as spent:
        record_usage(7, 2)
        record_usage(None, 3)
    record_usage(1, 1)
    assert (spent.answers, spent.prompt_tokens, spent.completion_tokens, spent.unmetered) == (2, 7, 5, 1)


class _Model(ThreadingHTTPServer):
    asked = 0


class _Handler(JsonHandler):
    server: _Model

    def do_POST(self) -> None:
        self.body()
        self.server.asked += 1
        usage = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}
        self.answer(completion('{"explanation": "it is known"}') | {"usage": usage})


@pytest.fixture
def model() -> Iterator[_Model]:
    with serving(_Model(("127.0.0.1", 0), _Handler)) as server:
        yield server


def test_estimate_batch_measures_stages_and_tokens_without_cache(
    model: _Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMEPIN_CACHE_DIR", str(tmp_path / "cache"))
    at = f"http://127.0.0.1:{model.server_port}/v1"
    chosen = (*TEXT_ONLY, "knowledge.model=m", f"knowledge.base_url={at}", "estimate.sample=4", "estimate.machines=3")
    settings = load_settings("starter", assignments=chosen, environment={})
    source = Source(str(write_posts(tmp_path / "posts.jsonl", 20)))
    for asked in (9, 18):  # one to warm up, four alone, four as a batch; no cache answers the second time
        expected, work = estimate_batch(settings, source, 1000)
        assert model.asked == asked
        knowledge = work.stages["knowledge"]
        assert (knowledge.on, knowledge.calls, knowledge.answers) == ("server", 1, 1)
        assert (expected.prompt_tokens, expected.completion_tokens) == (300_000, 20_000)
    assert (work.posts, work.failed, work.unmetered) == (4, 0, 0)
    assert work.stages["tagger"].on == "cores" and 0 < work.stages["tagger"].cpu_s and 0 < work.graph_s
    assert expected.bounds["graph"] == pytest.approx(3 / work.graph_s)  # the machines that were asked for, not this one
    assert not (tmp_path / "cache").exists()


def test_batch_estimate_prints_and_writes_estimate(cli: Cli, tmp_path: Path) -> None:
    posts, file = write_posts(tmp_path / "posts.jsonl", 3), tmp_path / "estimate.json"
    given = [word for one in (*TEXT_ONLY, "estimate.sample=1") for word in ("--set", one)]
    ran = cli("batch", posts, "--estimate", "500", "--json", file, *given)
    assert ran.code == 0 and "500 posts:" in ran.out and "bound by:" in ran.out
    found = json.loads(file.read_text())
    assert found["estimate"]["posts"] == 500 and found["work"]["margin"] is None and "tagger" in found["work"]["stages"]
    cluster = cli("batch", posts, "--estimate", "500", "--engine", "ray", *given, "--set", "estimate.machines=2")
    assert cluster.code == 0 and "500 posts:" in cluster.out and "stage 1 (text)" in cluster.out
    neither = cli("batch", posts)
    assert neither.code == 2 and "one of --out DIR and --estimate N is needed" in neither.err
