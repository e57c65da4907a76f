"""The graph with one model through every entrance: Ray, the page, a review and MCP, against a scripted server."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mcp import Client

from namepin.agent.config.settings import load_settings
from namepin.agent.mcp.owners import McpSessions
from namepin.agent.mcp.server import build_server, local
from support.batch_samples import start, timeless
from support.browser import open_browser
from support.cli import Cli
from support.pages import ASTRONAUT, give_picture, send, visit
from support.processes import environment, free_port, running_namepin
from support.scripted_chat import Handler, Server, serve

NAMES = ("Ada", "Bob", "Cleo", "Dan")
TEXT = "Ada met Bob in Oslo"


@pytest.fixture
def browser() -> Iterator[Any]:
    """For one test: the others of this file run event loops of their own."""
    with open_browser() as browser:
        yield browser


def item(name: str, box: list[int] | None) -> dict[str, Any]:
    return {"text": name, "type": "PER", "box": box}


class Echo(Server):
    """Lists the known names of the question, the first one with a box; answers about Cleo are no list."""

    def answer_to(self, body: dict[str, Any]) -> str:
        content = body["messages"][1]["content"]
        asked = content if isinstance(content, str) else content[-1]["text"]
        post = asked.partition("\n")[0]
        found = [name for name in NAMES if name in post]
        if "Cleo" in found:
            return "I would rather not."
        box = None if isinstance(content, str) else [200, 100, 800, 900]
        return json.dumps({"entities": [item(name, None if at else box) for at, name in enumerate(found)]})


class Unsure(Echo):
    """Gives log-probabilities, too; it is unsure about every box."""

    def __init__(self, *script: str) -> None:
        super().__init__(*script)
        self.RequestHandlerClass = WithLogprobs


class WithLogprobs(Handler):
    def answer(self, body: Any, status: int = 200) -> None:
        (choice,) = body["choices"]
        pieces = choice["message"]["content"].replace("[200", "\0[\x00200").replace("null", "\0null\0").split("\0")
        tokens = [{"token": p, "logprob": -0.65 if p in ("[", "null") else 0.0, "top_logprobs": []} for p in pieces]
        super().answer({**body, "choices": [{**choice, "logprobs": {"content": tokens}}]}, status)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve("", kind=Echo) as running:
        yield running


def profile(folder: Path, server: Server, **changes: Any) -> Path:
    """The profile as a file; JSON's values are TOML's here."""
    extractor = {"model": "m", "base_url": server.url, "frame": "thousand", "cache": False, "retries": 0, **changes}
    lines = ['graph = "mllm"']
    for section, values in {"extractor": extractor, "segmenter": {"backend": "grabcut"}}.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    (folder / "one.toml").write_text("\n".join(lines) + "\n")
    return folder / "one.toml"


@pytest.mark.slow
def test_mllm_batch_on_ray_equals_the_local_engine(
    tmp_path: Path, server: Server, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's default is 15, which starves them on a busy machine
    posts = tmp_path / "posts.jsonl"
    rows = [
        {
            "id": f"p{i:02}",
            "text": f"{NAMES[i % 4]} met {NAMES[(i + 1) % 4]} {i}",
            "image": [str(ASTRONAUT), None][i % 2],
        }
        for i in range(12)
    ]
    posts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen: list[str | Path] = ["--profile", profile(tmp_path, server), "--together", "4"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ray = start([posts, "--out", tmp_path / "ray", "--engine", "ray", "--set", "ray.chunk=4", *chosen])
    _, said = ray.communicate()
    ran = cli("batch", posts, "--out", tmp_path / "local", *chosen)
    torch.set_num_threads(threads)
    assert (ray.returncode, ran.code) == (0, 0), said.decode() + ran.err
    found, expected = (timeless(tmp_path / name / "predictions.jsonl") for name in ("ray", "local"))
    assert found == expected and len(found) == 12
    assert [row["status"] for row in found] == ["ok", "degraded", "degraded", "ok"] * 3
    first = found[0]["entities"]
    assert [(entity["text"], entity["groundable"]) for entity in first] == [("Ada", True), ("Bob", False)]
    assert first[0]["box"] and first[0]["mask"] and not first[1]["mask"]


def test_mllm_over_mcp_extracts_explains_and_reviews_close_places(tmp_path: Path) -> None:
    with serve("", kind=Unsure) as server:
        loaded = load_settings(str(profile(tmp_path, server, logprobs=True)), environment={})
        sessions = McpSessions(loaded, (), tmp_path)
        picture = base64.b64encode(ASTRONAUT.read_bytes()).decode()

        async def talk() -> None:
            async with Client(build_server(sessions, local)) as client:

                async def call(tool: str, **arguments: Any) -> Any:
                    answer = await client.call_tool(tool, arguments)
                    assert not answer.is_error, answer.content
                    return answer.structured_content

                found = await call("extract", text=TEXT, image=picture)
                ada, bob = found["extraction"]["entities"]
                assert ada["box"] and ada["mask"] and ada["match_score"] == pytest.approx(0.522, abs=1e-3)
                assert (bob["text"], bob["groundable"]) == ("Bob", False)
                assert "Ada" in (await call("explain", post=found["post"], which="Ada"))["words"]
                asked = await call("review", text=TEXT, image=picture)
                assert asked["state"] == "waiting" and [q["kind"] for q in asked["questions"]] == ["place", "place"]
                choices = {question["key"]: False for question in asked["questions"]}
                done = await call("decide", review=asked["review"], choices=choices)
                entities = done["extraction"]["entities"]
                assert not any(entity["groundable"] for entity in entities)
                assert all("review" in entity["provenance"] for entity in entities)

        asyncio.run(talk())


def test_mllm_page_shows_the_models_names_and_places(tmp_path: Path, server: Server, browser: Any) -> None:
    pytest.importorskip("gradio")
    env = environment(NAMEPIN_DATA_DIR=str(tmp_path / "data"))
    chosen = ("--profile", str(profile(tmp_path, server)))
    with running_namepin("serve", *chosen, port=free_port(), env=env, cwd=tmp_path) as url:
        for tab in visit(browser, url):
            give_picture(tab)
            turn = send(tab, TEXT, 1)
            assert turn.locator("a.mention").all_inner_texts()[0].startswith("Ada")
            assert turn.locator(".stage path").count() == 1, "a mask of the box that the model gave"
            assert turn.locator(".stage .pin").count() == 1
            refused = send(tab, "Cleo ran", 2)
            assert "W103" in refused.inner_html()
    assert server.bodies
