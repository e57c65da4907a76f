"""Profile api: one model in every role, few questions per post, and their price in the result and the estimate."""

import json
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namepin import Namepin
from namepin.agent.config.settings import load_settings
from namepin.tools.errors import NamepinError
from namepin.tools.llm.config import ChatConfig
from support import tiny_chat, tiny_vlm
from support.cli import Cli
from support.loopback import JsonHandler, completion, serving
from support.paths import ROOT

TEXT = "So proud of Eileen Collins, the first woman to command a Space Shuttle"
PICTURE = ROOT / "examples" / "astronaut.jpg"
KNOWLEDGE = "Named entities: 1. Eileen Collins (person/other) Reasoning: Eileen Collins was an astronaut of NASA."


class Server(ThreadingHTTPServer):
    """Answers every role as its prompt asks, and counts tokens as real servers do."""

    daemon_threads = True

    def __init__(self, down: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.down = down
        self.kinds: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(JsonHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.body())
        kind, said = self._reply(body)
        self.server.kinds.append(kind)
        if kind == self.server.down:
            return self.answer({"error": {"message": "overloaded"}}, 503)
        self.answer(
            {**completion(said), "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}}
        )

    def _reply(self, body: dict[str, Any]) -> tuple[str, str]:
        guide = body.get("response_format", {}).get("json_schema", {}).get("name")
        if guide == "answers":
            text = body["messages"][-1]["content"][1]["text"]
            count = text.count('\n1. "') + text.count('\n2. "')
            entries = [{"phrase": 1, "visible": True, "bbox_2d": [300, 100, 600, 900]}]
            entries += [{"phrase": 2, "visible": False, "bbox_2d": None}] * (count == 2)
            return "look", json.dumps({"answers": entries})
        if guide == "category":
            allowed = body["response_format"]["json_schema"]["schema"]["properties"]["category"]["enum"]
            return "rerank", json.dumps({"category": allowed[-1]})
        if isinstance(body["messages"][-1]["content"], list):
            return "caption", "A woman in an orange suit before a flag and a model of a space shuttle."
        return "knowledge", KNOWLEDGE


def settings(url: str, tmp_path: Path, **more: Any) -> dict[str, Any]:
    llm = {"base_url": url, "cache_dir": str(tmp_path / "cache"), "retries": 0, "timeout_s": 600}
    return {"llm": llm, **more}


def test_api_profile_reads_post_with_one_picture_question_for_all_names(tmp_path: Path) -> None:
    prices = {"million_prompt_tokens": 2.0, "million_completion_tokens": 10.0, "currency": "EUR"}
    with serving(Server()) as server:
        loaded = load_settings("api", overrides=settings(server.url, tmp_path, estimate=prices), environment={})
        pin = Namepin(loaded)
        found = pin.extract(TEXT, image=str(PICTURE))
        first = list(server.kinds)
        again = pin.extract(TEXT, image=str(PICTURE))
    entities = {entity.text: entity for entity in found.entities}
    collins, shuttle = entities["Eileen Collins"], entities["Space Shuttle"]
    width, height = found.image.width, found.image.height
    assert collins.groundable and collins.box == pytest.approx((0.3 * width, 0.1 * height, 0.6 * width, 0.9 * height))
    assert collins.mask is not None and shuttle.groundable is False and found.status == "ok"
    assert first.count("look") == first.count("caption") == first.count("knowledge") == 1
    assert first.count("rerank") == sum(entity.reranked for entity in found.entities) > 0
    assert found.usage is not None and found.usage.answers == len(first)
    assert found.usage.prompt_tokens == 1000 * len(first) and found.usage.currency == "EUR"
    assert found.usage.money == pytest.approx(len(first) * (1000 * 2.0 + 10 * 10.0) / 1e6)
    assert json.loads(found.to_json())["usage"]["answers"] == len(first)
    assert again.usage is None and "usage" not in json.loads(again.to_json()) and again.entities == found.entities


def test_api_profile_with_one_role_down_degrades_and_keeps_the_rest(tmp_path: Path) -> None:
    with serving(Server(down="look")) as server:
        pin = Namepin(load_settings("api", overrides=settings(server.url, tmp_path), environment={}))
        found = pin.extract(TEXT, image=str(PICTURE))
    assert found.status == "degraded" and [entity.text for entity in found.entities][0] == "Eileen Collins"
    assert all(entity.groundable is None for entity in found.entities)
    assert any(notice.tool == "entailment" and "503" in notice.message for notice in found.warnings)


def test_api_profile_batch_and_estimate_count_tokens(tmp_path: Path, cli: Cli) -> None:
    posts = tmp_path / "posts.jsonl"
    posts.write_text(json.dumps({"id": "1", "text": TEXT, "image": str(PICTURE)}) + "\n")
    with serving(Server()) as server:
        sets = [
            "llm.base_url=" + server.url,
            "llm.cache=false",
            "llm.timeout_s=600",
            "estimate.million_prompt_tokens=2",
        ]
        flags = [part for one in sets for part in ("--set", one)]
        ran = cli("batch", posts, "--out", tmp_path / "out", "--profile", "api", *flags)
        assert ran.code == 0, ran.err
        asked = len(server.kinds)
        estimated = cli("batch", posts, "--estimate", "1000", "--profile", "api", *flags)
    (row,) = map(json.loads, (tmp_path / "out" / "predictions.jsonl").read_text().splitlines())
    assert row["usage"]["prompt_tokens"] == 1000 * asked == 1000 * row["usage"]["answers"]
    assert row["usage"]["money"] == pytest.approx(asked * 2000 / 1e6)
    assert estimated.code == 0 and f"tokens: {asked * 1_000_000:,} in" in estimated.out, estimated.out + estimated.err


def test_llm_section_gives_configured_roles_one_model() -> None:
    tools = load_settings("api", environment={}).tools
    asking = {role: tool.config.model_dump() for role, tool in tools.items() if isinstance(tool.config, ChatConfig)}
    assert set(asking) == {"captioner", "knowledge", "reranker", "entailment", "grounder"}
    assert {config["model"] for config in asking.values()} == {"gpt-4.1-mini"}
    assert tools["segmenter"].backend == "grabcut"
    assignments = ["llm.model=Qwen/Qwen2.5-VL-7B", "llm.base_url=http://127.0.0.1:1/v1", "reranker.model=other"]
    changed = load_settings("api", assignments=assignments, environment={}).tools
    assert changed["reranker"].config.model_dump()["model"] == "other"
    assert changed["captioner"].config.model_dump()["base_url"] == "http://127.0.0.1:1/v1"
    assert "knowledge" not in load_settings("starter", assignments=["llm.model=m"], environment={}).tools
    with pytest.raises(NamepinError, match=r"E202.*did you mean llm\.model"):
        load_settings("api", assignments=["llm.modle=m"], environment={})


def test_api_profile_without_key_raises_e311(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(NamepinError, match="E311.*OPENAI_API_KEY"):
        Namepin.from_profile("api").extract(TEXT)


@pytest.mark.slow
def test_api_profile_on_real_server_asks_every_role_and_names_what_was_unusable(tmp_path: Path) -> None:
    """A tiny model that was taught another question answers nothing, so each role degrades by itself."""
    green, red = (Image.new("RGB", (64, 64), colour) for colour in ((20, 200, 60), (220, 30, 30)))
    tiny_vlm.train(tmp_path / "model", "What is this?", {"a green field": green, "a red wall": red})
    small = {"guide": "none", "min_pixels": 1024}
    with tiny_chat.serve(tmp_path / "model") as url:
        more = {"reranker": {"guide": "none"}, "entailment": small, "grounder": small}
        given = settings(url, tmp_path, **more)
        given["llm"]["model"] = str(tmp_path / "model")
        found = Namepin(load_settings("api", overrides=given, environment={})).extract(
            "Ada Lovelace in Hyde Park", green
        )
    assert [entity.text for entity in found.entities] == ["Ada Lovelace", "Hyde Park"]
    assert {warning.code for warning in found.warnings} == {"W103"} and found.status == "degraded"
    roles = {warning.message.split(":")[0] for warning in found.warnings}
    assert roles == {"captioner", "knowledge", "reranker", "entailment"}
    assert found.usage is not None and found.usage.answers > 4 < found.usage.prompt_tokens
