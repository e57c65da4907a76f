"""Every row of every table: what its training commands write is what it reads, and it runs from post to result."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from namepin.agent.config.settings import load_settings
from namepin.agent.workflows.predict import evaluated_pin
from namepin.evals.ablations import Row, ablations
from namepin.finetune.recipes import entailment, grounder, matcher, reranker, tagger
from namepin.tools.types import Post
from support import scripted_chat, tiny_rows
from support.tiny_modern import Guided
from support.tiny_riveg import ANNOTATION

pytestmark = pytest.mark.slow

TRAIN = ablations().train
ROWS = {
    row.on(name).without_name(): (ablation.name, row.name, row.on(name))
    for ablation in ablations().ablation
    for row in ablation.rows
    for name in row.datasets or ablation.datasets
    if not row.predictions and row.profile in ("gem", "riveg", "starter")
}
READ_AS = {
    tagger.TaggerRecipe: ("tagger.adapter",),
    matcher.MatcherRecipe: ("matcher.blip.weights", "grounder.blip.weights"),
    matcher.Blip2MatcherRecipe: ("matcher.blip2.weights",),
    matcher.LlavaMatcherRecipe: ("matcher.llava.adapter",),
    reranker.LlavaRecipe: ("reranker.adapter",),
    reranker.Blip2Recipe: ("reranker.adapter",),
    reranker.TextRecipe: ("reranker.adapter",),
    entailment.OfaEntailmentRecipe: ("entailment.ofa.weights",),
    entailment.AlbefEntailmentRecipe: ("entailment.weights",),
    grounder.OfaGrounderRecipe: ("grounder.ofa.weights",),
    grounder.SeqtrRecipe: ("grounder.weights",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("rows")
    tiny_rows.save_nets(folder / "nets")
    (folder / "data").mkdir()
    tiny_rows.save_data(folder / "data")
    before = tiny_rows.enter(folder)  # the rows name weights relative to the current folder
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def commands(folder: Path) -> tiny_rows.Commands:
    return tiny_rows.Commands(folder)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str]]:
    with scripted_chat.serve(ANNOTATION) as knowledge, scripted_chat.serve("", kind=Guided) as other:
        yield knowledge.url, other.url


def made_of(row: Row) -> dict[str, str]:
    """Setting -> path of the weights that a command makes."""
    pairs = (assignment.partition("=") for assignment in row.set)
    return {key: value for key, _, value in pairs if value in TRAIN}


@pytest.mark.parametrize(("table", "name", "row"), ROWS.values())
def test_row_reads_what_its_commands_write_and_runs(
    folder: Path, commands: tiny_rows.Commands, servers: tuple[str, str], table: str, name: str, row: Row,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for key, path in made_of(row).items():
        if TRAIN[path].startswith("namepin "):
            _, recipe = commands._recipe(TRAIN[path])
            assert key in READ_AS[type(recipe)]
        commands.make(path, TRAIN[path])
    chosen = {role: tool.backend for role, tool in load_settings(row.profile, assignments=row.set).tools.items()}
    chosen |= {"knowledge": "off"} if row.knowledge != "live" and "knowledge" not in chosen else {}
    assignments = [one for one in row.set if not one.startswith("examples.data=")]
    settings = load_settings(
        row.profile, assignments=assignments, overrides=tiny_rows.overrides_for(row, chosen, *servers)
    )
    text = "ada runs"
    pin = evaluated_pin(settings, row.knowledge, {text: "1. ada (actor)"} if row.knowledge == "recorded" else {})
    post = Post(id="1", text=text, tokens=("ada", "runs"), image=str(folder / "data/gmner/images/dev0.jpg"))
    (found,) = pin.batch([post])
    assert found.status == "ok", found.warnings
