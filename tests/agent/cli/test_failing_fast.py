"""Bad input is reported before heavy imports, and a long start first says what it loads.

`namepin bench startup` measures the times. In these tests the heavy packages cannot be imported.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from namepin.agent.bench.registry import REFUSED
from namepin.agent.workflows.recipes import RECIPE_MODULES
from support.processes import environment, free_port

HEAVY = (
    *("torch", "transformers", "safetensors", "accelerate", "peft", "tokenizers"),
    *("langchain", "langchain_core", "langchain_openai", "langgraph", "langsmith", "openai", "httpx", "requests"),
    *("cv2", "rapidocr", "onnxruntime", "scipy", "pandas", "pyarrow", "matplotlib", "ray"),
    *("fastapi", "starlette", "uvicorn", "gradio", "mcp", "rich.progress", "rich.table"),
)
SCRIPT = """
import contextlib, io, json, sys
from importlib.machinery import ModuleSpec

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name in HEAVY else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        attempts.append(module.__name__)
        raise ModuleNotFoundError(f"heavy: {module.__name__}", name=module.__name__)

HEAVY, commands = json.load(sys.stdin)
attempts = []
sys.meta_path.insert(0, Forbidden())
from namepin.agent.cli.main import main
for words in commands:
    attempts.clear()
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    print(json.dumps([code, err.getvalue().splitlines(), attempts]))
"""


def run_without_heavy_packages(commands: list[list[str]], folder: Path) -> list[tuple[int, list[str], list[str]]]:
    """Exit code, lines on stderr, and heavy packages whose import was tried, of each command; in one fresh process."""
    given = json.dumps([HEAVY, commands])
    env = environment(NAMEPIN_DATA_DIR=str(folder / "data"), NAMEPIN_CACHE_DIR=str(folder / "cache"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=given, capture_output=True, text=True, cwd=folder, env=env
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_cli_with_bad_input_fails_before_heavy_import(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"these are only words")
    (tmp_path / "posts.jsonl").write_text('{"id": "a", "text": "Ada"}\n')
    world = ["--dataset", "gmner", "--root", "nowhere"]
    commands = {
        **{name: list(words) for name, words in REFUSED.items()},
        "broken picture": ["extract", "Ada in Oslo", "--image", "cut.png"],
        "unknown backend": ["extract", "Ada in Oslo", "--set", "tagger.backend=dul"],
        "setting of a neural tool": ["extract", "Ada in Oslo", "--profile", "gem", "--set", "reranker.weight=x"],
        "output over an input": ["extract", "--posts", "posts.jsonl", "--out", "posts.jsonl"],
        "unknown command": ["extrat", "Ada in Oslo"],
        "batch without output": ["batch", "posts.jsonl"],
        "batch of an unknown profile": ["batch", "posts.jsonl", "--out", "out", "--profile", "startr"],
        "estimate of an unknown profile": ["batch", "posts.jsonl", "--estimate", "9", "--profile", "startr"],
        "eval of an unknown profile": ["eval", *world, "--split", "dev", "--profile", "startr"],
        "eval of two things": ["eval", *world, "--split", "dev", "--profile", "gem", "--predictions", "y"],
        "unknown ablation": ["ablate", "nowhere"],
        "ablation of no data": ["ablate", "gem-gate", *world],
        "sweep over a tool": ["sweep", "nowhere", "--over", "tagger.beta=1", *world],
        "replay with a wrong setting": ["replay", "nowhere", "--set", "gate.gama=1"],
        "chat of an unknown profile": ["chat", "--profile", "startr"],
        "chat of no conversation": ["chat", "--session", "a/b"],
        "serve of an unknown profile": ["serve", "--profile", "startr"],
        "serve to the world without tokens": ["serve", "--host", "0.0.0.0"],
        "mcp of an unknown profile": ["mcp", "--profile", "startr"],
        "mcp without its folder": ["mcp", "--images", "nowhere"],
        "doctor of an unknown profile": ["doctor", "--profile", "startr"],
        "unknown recipe": ["finetune", "tager"],
        **{f"setting of {tool}": ["finetune", tool, "--set", "epoks=1"] for tool in RECIPE_MODULES},
        "recipe without its data": ["finetune", "matcher"],
        "unknown bench": ["bench", "nowhere"],
    }  # fmt: skip
    found = run_without_heavy_packages(list(commands.values()), tmp_path)
    assert len(found) == len(commands)
    for (name, words), (code, said, attempts) in zip(commands.items(), found, strict=True):
        assert (code, len(said), attempts) == (2, 1, []), (name, words, said)
        assert said[0].startswith("error: E"), name


@pytest.mark.parametrize(
    "words",
    [
        ["serve", "--port", "{port}"],
        ["mcp"],
        ["mcp", "--http", "--port", "{port}"],
        ["chat"],
        ["batch", "posts.jsonl", "--out", "out"],
        ["batch", "posts.jsonl", "--estimate", "9"],
        ["finetune", "matcher", "--set", "root=world"],
    ],
    ids=" ".join,
)
def test_cli_with_slow_start_prints_loading_line_first(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "posts.jsonl").write_text('{"id": "a", "text": "Ada in Oslo"}\n')
    command = [word.replace("{port}", str(free_port())) for word in words]
    ((_, said, attempts),) = run_without_heavy_packages([command], tmp_path)
    assert said[0].startswith("loading "), said
    assert attempts, "the command went on to load"
