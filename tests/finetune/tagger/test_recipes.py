"""The shipped recipes: the papers' numbers with their sections, and each trains and tags on a tiny encoder."""

import dataclasses
import random
import re
from pathlib import Path

import pytest
import torch

from namepin.agent.workflows.recipes import load_recipe, shipped_recipes
from namepin.finetune.recipes.tagger import RECIPES, TaggerRecipe
from namepin.finetune.tagger.recipe import spec_of
from namepin.finetune.tagger.train import TaggerTask, train
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest
from namepin.tools.loading.shipped import WEIGHTS
from namepin.tools.media import Media
from namepin.tools.tagger.adapter import read_manifest
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger
from support import tiny_encoders
from support.tagger_posts import write_posts

GEM, RIVEG = "GEM, appendix C", "RiVEG, section V-A3a"
NUMBERS = [
    ("gem", "alpha", 0.1, GEM),
    ("gem", "beta", 0.1, GEM),
    ("gem", "lr_encoder", 5e-6, GEM),
    ("gem", "lr_heads", 5e-6, GEM),
    ("gem", "batch_size", 4, GEM),
    ("gem", "epochs", 10, GEM),
    ("gem", "knowledge_pieces", 256, GEM),
    ("gem", "crf_scope", "all", "GEM, equation 5"),
    ("plim-xlmr", "lr_encoder", 7e-6, RIVEG),
    ("plim-xlmr", "lr_heads", 7e-6, RIVEG),
    ("plim-xlmr", "batch_size", 4, RIVEG),
    ("plim-xlmr", "epochs", 25, RIVEG),
    ("plim-xlmr", "encoder", "FacebookAI/xlm-roberta-large", "RiVEG, section V-A2"),
    ("plim-bert", "lr_encoder", 5e-5, RIVEG),
    ("plim-bert", "lr_heads", 5e-5, RIVEG),
    ("plim-bert", "batch_size", 16, RIVEG),
    ("plim-bert", "epochs", 20, RIVEG),
    ("plim-bert", "encoder", "google-bert/bert-base-uncased", "RiVEG, section V-A2"),
]
"""Of each paper's recipe a setting, its value, and the section that the file names beside it."""
PAPERS = ("gem", "plim-xlmr", "plim-bert")


def shipped(name: str, *assignments: str) -> TaggerRecipe:
    return load_recipe(RECIPES, Path(name), assignments)


@pytest.mark.parametrize(("name", "key", "value", "section"), NUMBERS)
def test_recipe_of_paper_has_its_number_and_section(name: str, key: str, value: object, section: str) -> None:
    assert getattr(shipped(name), key) == value
    line = re.search(rf"^{key} = .*$", shipped_recipes()[name].read_text("utf-8"), re.M)
    assert line is not None and line[0].partition("# ")[2].startswith(section)


@pytest.mark.parametrize("name", PAPERS)
def test_recipe_of_paper_disables_own_extensions(name: str) -> None:
    recipe = shipped(name)
    assert not (recipe.bare or recipe.freeze_embeddings or recipe.casing or recipe.letters or recipe.marks)
    assert recipe.attention_dropout and recipe.knowledge == 1 and recipe.patience == recipe.epochs
    assert recipe.swap == recipe.lower == recipe.hide == recipe.ema == recipe.pooled == 0
    assert spec_of(recipe).input.max_pieces == 256


def test_starter_recipe_is_the_one_that_made_the_shipped_adapter() -> None:
    recorded = read_manifest(WEIGHTS / "starter-tagger").training["recipe"]
    machine = {"threads", "checkpoint_steps"}
    mine = dataclasses.asdict(shipped("starter"))
    assert {key: mine[key] for key in recorded.keys() - machine} == {
        key: value for key, value in recorded.items() if key not in machine
    }


def test_unknown_recipe_raises_e201_with_shipped_names() -> None:
    assert set(shipped_recipes()) == {*PAPERS, "starter", "base"}
    with pytest.raises(NamepinError, match=r"E201(.|\n)*gem, plim-bert"):
        shipped("gemm")


FINE = {"PER": "person\t{0}-actor", "LOC": "location\t{0}-city"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 24), ("dev", 8)):
        write_posts(folder / "gmner", split, count)
        text = (folder / "gmner" / "txt" / f"{split}.txt").read_text()
        text = re.sub(r"([BI])-(PER|LOC)", lambda tag: f"{tag[1]}-{FINE[tag[2]].format(tag[1])}", text)
        (folder / "fmnerg" / "txt_fine").mkdir(parents=True, exist_ok=True)
        (folder / "fmnerg" / "txt_fine" / f"{split}.txt").write_text(re.sub(r"\tO$", "\tO\tO", text, flags=re.M))
        (folder / "fmnerg" / "knowledge").mkdir(exist_ok=True)
        knowledge = (folder / "gmner" / "knowledge" / f"{split}.jsonl").read_text()
        (folder / "fmnerg" / "knowledge" / f"{split}.jsonl").write_text(knowledge)
    (folder / "ccby" / "btc").mkdir(parents=True)
    (folder / "ccby" / "btc" / "a.conll").write_text("Oslo\tB-LOC\nis\tO\nfine\tO\n\n" * 8)
    tiny_encoders.save_tiny_bert(folder / "bert")
    (folder / "gmner" / "twitter" / "knowledge").mkdir(parents=True)
    for split, name in (("train", "train"), ("dev", "valid")):  # Twitter-2015 calls dev `valid`
        text = (folder / "gmner" / "txt" / f"{split}.txt").read_text()
        (folder / "gmner" / "twitter" / f"{name}.txt").write_text(text)
        knowledge = (folder / "gmner" / "knowledge" / f"{split}.jsonl").read_text()
        (folder / "gmner" / "twitter" / "knowledge" / f"{name}.jsonl").write_text(knowledge)
    return folder


def tiny(root: Path, out: Path, name: str, *assignments: str) -> TaggerRecipe:
    given = [f"data={root}", f"encoder={root / 'bert'}", f"out={out}", "epochs=1", "cpu=true", "threads=1"]
    given += ["knowledge_pieces=24", "precision=no", "batch_size=8"]
    return shipped(name, *given, *assignments)


@pytest.mark.parametrize("scheme", ["4/51", "8/51"])
def test_recipe_on_twitter_with_fine_types_raises_e203(root: Path, tmp_path: Path, scheme: str) -> None:
    recipe = tiny(root, tmp_path, "gem", f"data={root}/gmner/twitter", "dataset=twitter", f"scheme={scheme}")
    with pytest.raises(NamepinError, match="E203: scheme: twitter"):
        TaggerTask(recipe)


def test_recipe_on_twitter_loads_same_posts_as_gmner(root: Path, tmp_path: Path) -> None:
    here = tiny(root, tmp_path, "plim-bert", f"data={root}/gmner/twitter", "dataset=twitter")
    twitter, gmner = TaggerTask(here), TaggerTask(tiny(root, tmp_path, "plim-bert"))
    assert (twitter.train, twitter.dev) == (gmner.train, gmner.dev) and twitter.train[0].knowledge
    assert set(twitter.data) == {"train.txt", "valid.txt", "knowledge/train.jsonl", "knowledge/valid.jsonl"}
    assert "score" in train(here)


@pytest.fixture(autouse=True)
def _keep_threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("gem", ()),
        ("gem", ("dataset=gmner", "scheme=4")),
        ("plim-bert", ()),
        ("plim-xlmr", ("knowledge=0", "bare=true")),
        ("base", ("upper_layers=1",)),
        ("starter", ()),
    ],
)
def test_recipe_trains_and_its_adapter_tags(root: Path, tmp_path: Path, name: str, more: tuple[str, ...]) -> None:
    recipe = tiny(root, tmp_path, name, *more)
    report = train(recipe)
    assert ("dev_f1" in report) == recipe.bare and ("dev_f1_knowledge" in report) == bool(recipe.knowledge)
    parts = [value for key, value in report.items() if key.startswith("dev_f1")]
    assert ("dev_f1_fine_knowledge" in report) == (recipe.dataset == "fmnerg" and bool(recipe.knowledge))
    assert report["score"] == pytest.approx(sum(parts) / len(parts), abs=1e-5)
    tool = DualTagger(TaggerConfig(adapter=report["adapter"]))
    (tags,) = tool.run([TagRequest(text="Ada Bell is in Oslo now")], Media())
    assert tags is not None


def test_recipe_switches_select_trained_parameters_and_rows(root: Path, tmp_path: Path) -> None:
    paper, ours = (TaggerTask(tiny(root, tmp_path, name, "dataset=gmner", "scheme=4")) for name in ("gem", "starter"))
    upper = TaggerTask(tiny(root, tmp_path, "base", "upper_layers=1"))
    name = "encoder.embeddings.word_embeddings.weight"
    trained = [
        {key for key, value in task.net.named_parameters() if value.requires_grad} for task in (paper, ours, upper)
    ]
    assert name in trained[0] and name not in trained[1]
    assert not [key for key in trained[0] if key.startswith(("chars.", "shapes."))]
    assert [key for key in trained[1] if key.startswith("chars.")]
    layers = {int(key.split(".")[3]) for key in trained[2] if key.startswith("encoder.encoder.layer.")}
    assert layers == {max(int(key.split(".")[3]) for key in trained[0] if key.startswith("encoder.encoder.layer."))}
    rows = list(paper.rows(random.Random(1)))
    assert len(rows) == len(paper.train) and all(row.informed for row in rows)
    assert len(list(ours.rows(random.Random(1)))) > len(ours.train)
    dropouts = [
        {float(m.dropout.p) for m in task.net.encoder.modules() if m.__class__.__name__.endswith("SelfAttention")}  # type: ignore[union-attr]
        for task in (paper, ours)
    ]
    assert dropouts[0] != {0.0} and dropouts[1] == {0.0}
