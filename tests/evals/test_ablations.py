"""The papers' tables: every definition is valid, and rows run or give the reason why not."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from namepin.agent.cli.ablate import ablate
from namepin.agent.config.backends import BACKENDS
from namepin.agent.config.settings import load_settings
from namepin.agent.workflows.ablate import Bench, command, obstacles
from namepin.agent.workflows.recipes import load_recipe, recipe_kinds
from namepin.evals.ablations import Ablation, Row, ablation_named, ablations, cell
from namepin.evals.report.full import full_report
from namepin.evals.report.paper_figures import published_row
from namepin.evals.run import load_dataset
from namepin.evals.scoring.entropy_bins import gate_report
from namepin.evals.scoring.evaluate import TASKS
from namepin.evals.scoring.predictions import Predictions, check, from_extractions
from namepin.finetune.sandbox.train import RUNS
from namepin.tools.errors import NamepinError
from support import sweep_tools
from support.eval_samples import write_rows
from support.paths import ROOT
from support.tiny_world import write_world

MAKEFILE = ROOT / "Makefile"
ROWS = [(a, row.on(name)) for a in ablations().ablation for row in a.rows for name in row.datasets or a.datasets]


def test_ablations_cover_every_table_of_papers() -> None:
    gem = {f"gem-{name}" for name in ("table1", "table3", "table5", "figure3", "figure4", "figure5", "figure6")}
    riveg = {f"riveg-table{number}" for number in (2, 6, *range(8, 12))} | {"riveg-figure8", "riveg-figure9"}
    riveg |= {f"riveg-table{number}-{year}" for number in (5, 7) for year in (2015, 2017)}
    names = [ablation.name for ablation in ablations().ablation]
    assert (gem | riveg | {"gem-table2-text", "gem-table2-visual", "riveg-footnote3"}) <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("ablation", "row"), ROWS)
def test_ablation_rows_load_as_valid_settings(ablation: Ablation, row: Row) -> None:
    if row.predictions:
        return
    settings = load_settings(row.profile, assignments=row.set, environment={})
    assert settings.graph == row.graph
    assert not row.needs or {need for need in row.needs if need in BACKENDS} <= settings.tools.keys()


def test_riveg_variants_ablation_has_fourteen_distinct_rows() -> None:
    rows = ablation_named("riveg-variants").rows
    assert len(rows) == len({row.without_name() for row in rows}) == len({row.name for row in rows}) == 14
    chosen = {tuple(a.partition("=")[2] for a in row.set if a.endswith(("=ofa", "=albef", "=seqtr"))) for row in rows}
    assert chosen == {("ofa", "ofa"), ("ofa", "seqtr"), ("albef", "ofa"), ("albef", "seqtr")}


def test_ablation_own_weights_all_have_training_command() -> None:
    used = {a.partition("=")[2] for _, row in ROWS for a in row.set}
    named = {value for value in used if value.startswith("out/")}
    made = {row.predictions for _, row in ROWS} & set(ablations().train)
    assert named | made == set(ablations().train) and made == {
        "out/predictions/rtdetr.jsonl",
        "out/predictions/unified.jsonl",
    }


SANDBOX = {path: text for path, text in ablations().train.items() if text == "make sandbox"}
THEIRS = {path: text for path, text in ablations().train.items() if text.startswith("SeqTR's own ")}
OURS = {path: text for path, text in ablations().train.items() if text.startswith("namepin finetune")}


@pytest.mark.parametrize("path", OURS)
def test_ablation_training_command_loads_recipe_with_matching_output(path: str) -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("namepin")
    asked.add_argument("finetune")
    asked.add_argument("tool")
    asked.add_argument("--config", type=Path)
    asked.add_argument("--set", action="append")
    words = asked.parse_args(shlex.split(OURS[path], comments=True))
    assert (words.namepin, words.finetune) == ("namepin", "finetune")
    recipe = load_recipe(recipe_kinds(words.tool), words.config, words.set)
    assert path in (f"{recipe.out}/weights", f"{recipe.out}/adapter")


@pytest.mark.parametrize("path", SANDBOX)
def test_ablation_sandbox_paths_are_made_by_make_sandbox(path: str) -> None:
    words = shlex.split(
        next(line for line in MAKEFILE.read_text().splitlines() if "namepin.finetune.sandbox.train" in line)
    )
    out, name, _ = path.removeprefix(words[words.index("-m") + 2]), *path.split("/")[2:4]
    assert out.startswith("/") and (name in RUNS or name in ("nets", "world"))


def test_there_is_no_recipe_for_seqtrs_outlines() -> None:
    assert list(THEIRS) == ["out/vg-seqtr-mask/segm_best.pth"]


def test_ablation_rows_of_table_are_distinct() -> None:
    for ablation in ablations().ablation:
        assert len({row.without_name() for row in ablation.rows}) == len(ablation.rows), ablation.name


def test_ablation_columns_are_paths_in_report(tmp_path: Path) -> None:
    data = sweep_tools.data(tmp_path)
    everything = [
        {"id": post.post.id, "entities": [], "regions": [[10, 10, 50, 60]] if i == 0 else []}
        for i, post in enumerate(data.posts)
    ]
    report = full_report(data, check([(row["id"], row) for row in everything], data))
    known = report.model_dump(mode="json")
    for column in {column for ablation in ablations().ablation for column in ablation.columns}:
        task = column.rpartition(".")[0]
        assert task in TASKS or column.split(".")[0] in known, column
    assert cell(report, "mner.f1") is not None and cell(report, "smner.f1") is None
    top = cell(report, "regions.top_n.10")
    assert top is not None and top.value == 0.5


def predictions(data: Any, made: dict[str, sweep_tools.Counted]) -> Predictions:
    return from_extractions(sweep_tools.pin(made).batch([gold.post for gold in data.posts]), data)


def test_gate_report_compares_tagger_and_reranker_by_entropy_bin(tmp_path: Path) -> None:
    data = sweep_tools.data(tmp_path)
    # Gamma 0.2: Ana (H = 0.1985, PER, right) stays; Boo and Ado (0.673, tagged PER, gold LOC) are reranked to LOC.
    report = gate_report(data, predictions(data, sweep_tools.tools()), k=2)
    assert report is not None and report.entities == 3
    sure, torn = report.bins
    assert (sure.count, sure.tagger, sure.reranked, sure.reranker) == (1, 1.0, 0, None)
    assert (torn.count, torn.tagger, torn.top, torn.reranked, torn.reranker) == (2, 0.0, 1.0, 2, 1.0)
    assert torn.tagger_on_those == 0.0
    # The tagger's: one bin of 0.95 that is right, one of 0.6 that is wrong twice.
    assert report.error == pytest.approx((0.05 + 2 * 0.6) / 3)
    only_one = gate_report(data, predictions(data, sweep_tools.tools()), k=1)
    assert only_one is not None and only_one.bins[1].top == 0.0


def small(*rows: Row) -> Ablation:
    columns = ("mner.f1", "gmner.f1")
    return Ablation(name="x", source="x", title="x", columns=columns, datasets=("gmner",), gate=True, rows=rows)


def test_ablate_bench_fills_rows_of_equal_run_from_one_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, made = sweep_tools.data(tmp_path / "gmner"), sweep_tools.tools()
    monkeypatch.setattr("namepin.agent.workflows.predict.evaluated_pin", lambda *_: sweep_tools.pin(made))
    rows = (
        Row(name="all", profile="starter", knowledge="off"),
        Row(name="none", profile="starter", knowledge="off", visual="none"),
    )
    both, none = Bench(data, tmp_path / "gmner", save=tmp_path).run(small(*rows))
    assert made["tagger"].calls == 2
    assert both.cells["gmner.f1"] and both.cells["gmner.f1"].value == 1
    assert none.cells["gmner.f1"] and none.cells["gmner.f1"].value == pytest.approx(1 / 3)
    assert none.cells["mner.f1"] and none.cells["mner.f1"].value == 1 and none.command.endswith("--visual none")
    again = sweep_tools.tools()
    monkeypatch.setattr("namepin.agent.workflows.predict.evaluated_pin", lambda *_: sweep_tools.pin(again))
    resumed = list(Bench(data, tmp_path / "gmner", save=tmp_path).run(small(*rows)))
    assert resumed == [both, none] and again["tagger"].calls == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Row(name="r", graph="unheard-of"), "graph unheard-of is not built"),
        (Row(name="r", profile="starter", graph="riveg"), "profile starter has the graph gem"),
        (Row(name="r", predictions="no/such.jsonl"), "another system's predictions"),
        (Row(name="r", profile="starter", needs=("reranker",)), "has no reranker"),
        (Row(name="r", profile="starter", set=("tagger.adapter=out/bert-crf-gmner/adapter",)), "finetune tagger"),
        (Row(name="r", profile="starter", set=("tagger.adaptor=x",)), "E202"),
        (
            Row(name="r", profile="starter", needs=("server",), knowledge="live", set=("knowledge.model=m",)),
            "no server of m is set: --set knowledge.base_url=URL",
        ),
        (Row(name="r", profile="riveg", graph="riveg"), "OPENAI_API_KEY is not set, which expansion would"),
        (Row(name="r", profile="starter"), "no recorded knowledge"),
        (Row(name="r", profile="starter", knowledge="off", needs=("masks",)), "no masks/"),
    ],
)
def test_ablate_bench_with_unrunnable_row_reports_reason_without_cells(
    row: Row, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sweep_tools.data(tmp_path / "gmner")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("namepin.agent.workflows.predict.evaluated_pin", lambda *_: pytest.fail("it ran"))
    (result,) = Bench(data, tmp_path / "gmner").run(small(row))
    assert any(reason in why for why in result.why_not), result.why_not
    assert not result.cells and result.gate is None and result.command.startswith("namepin eval --dataset gmner")


def test_row_on_fmnerg_finds_the_knowledge_of_gmner_beside_it(tmp_path: Path) -> None:
    (tmp_path / "fmnerg" / "txt_fine").mkdir(parents=True)
    (tmp_path / "fmnerg" / "txt_fine" / "dev.txt").write_text("IMGID:1\nAda\tB-person\tB-actor\n", "utf-8")
    (tmp_path / "gmner" / "txt").mkdir(parents=True)
    (tmp_path / "gmner" / "txt" / "dev.txt").write_text("IMGID:1\nAda\tB-PER\n", "utf-8")
    root = tmp_path / "fmnerg"
    row = Row(name="r", profile="starter", needs=("masks",))
    ablation = small(row).model_copy(update={"datasets": ("fmnerg",)})
    (before,) = Bench(load_dataset("fmnerg", root, "dev"), root).run(ablation)
    (tmp_path / "gmner" / "knowledge").mkdir()
    (tmp_path / "gmner" / "knowledge" / "dev.jsonl").write_text('{"id": "1", "knowledge": "x"}\n', "utf-8")
    (after,) = Bench(load_dataset("fmnerg", root, "dev"), root).run(ablation)
    assert any("no recorded knowledge" in why for why in before.why_not)
    assert after.why_not and not any("no recorded knowledge" in why for why in after.why_not)


def test_ablation_command_of_row_equals_eval_command() -> None:
    row = Row(name="r", profile="starter", knowledge="recorded", set=("gate.gamma=0", "gate.k=3"), iou=0.7)
    assert command(row, "gmner", "my data", "dev") == (
        "namepin eval --dataset gmner --root 'my data' --split dev --profile starter --knowledge recorded "
        "--set gate.gamma=0 --set gate.k=3 --iou 0.7"
    )


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command("ablate")(ablate)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["ablate", *map(str, arguments)], standalone_mode=False)


def test_ablate_command_fills_row_from_saved_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = sweep_tools.folder(tmp_path / "gmner"), tmp_path / "out"
    (out / "predictions").mkdir(parents=True)
    rows = [{"id": "1", "entities": [], "regions": [[10, 10, 50, 60]]}, {"id": "2", "entities": [], "regions": []}]
    write_rows(out / "predictions" / "vinvl.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "table.json"
    page = tmp_path / "table.html"
    result = run("riveg-table2", "--dataset", "gmner", "--root", root, "--json", table, "--html", page)
    assert "<td>50.00</td>" in page.read_text("utf-8") and "<td>not run</td>" in page.read_text("utf-8")
    assert result.return_value == 0 and "not run: Faster R-CNN" in result.stdout
    (head,) = (line for line in result.stdout.splitlines() if line.startswith("┃ row"))
    assert "difference" in head and "…" not in result.stdout, "in a pipe no cell is cut"
    first, second, third = json.loads(table.read_text())["rows"]
    assert third["before"] == [ablations().train["out/predictions/rtdetr.jsonl"]]
    assert not first["cells"] and second["cells"]["regions.top_n.15"]["value"] == 0.5


def test_ablate_list_names_every_ablation() -> None:
    shown = run("--list").stdout
    assert all(ablation.name in shown for ablation in ablations().ablation)
    assert shown.count(" rows ") == len(ablations().ablation) and "0 of 4 rows" in shown, "how many of each run here"


def test_ablate_with_unknown_name_or_missing_data_raises_e139() -> None:
    for arguments in (("no-such-table", "--dataset", "gmner", "--root", "."), ("gem-figure3",)):
        error = run(*arguments).exception
        assert isinstance(error, NamepinError) and error.code == "E139"
    assert not obstacles(ablation_named("gem-table1").rows[0])


def test_row_with_a_configured_server_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(name="r", profile="starter", needs=("server",), knowledge="live", set=("knowledge.model=m",))
    assert obstacles(row)
    monkeypatch.setenv("NAMEPIN_KNOWLEDGE__BASE_URL", "http://127.0.0.1:8000/v1")
    assert not obstacles(row)
    monkeypatch.delenv("NAMEPIN_KNOWLEDGE__BASE_URL")
    assert not obstacles(row.on("gmner", below=("knowledge.base_url=http://127.0.0.1:8000/v1",)))


def test_row_has_the_figures_that_its_paper_prints() -> None:
    def paper(source: str, name: str, dataset: str, column: str) -> float | None:
        row = published_row(source, name, dataset)
        return row.figure(column) if row else None

    assert paper("RiVEG, Table VI", "RiVEG† BERT", "gmner", "gmner.f1") == pytest.approx(0.6602)
    assert paper("RiVEG, Table VI", "RiVEG† XLMR", "gmner", "gmner.f1") == pytest.approx(0.6706)
    assert paper("GEM, Table 1", "GEM (RoBERTa)", "fmnerg", "fine.mner.f1") == pytest.approx(0.7080)
    assert paper("GEM, Table 1", "no such row", "fmnerg", "fine.mner.f1") is None
    printed = [(a, row, name) for a in ablations().ablation for row in a.rows for name in row.datasets or a.datasets]
    tables = [one for one in printed if "Table" in one[1].source and "starter" not in one[1].name]
    there = ("gmner", "fmnerg", "smner", "twitter")
    lacking = {
        (row.source, row.name, name)
        for _, row, name in tables
        if name in there and not published_row(row.source, row.name, name)
    }
    assert {name for _, _, name in lacking} <= {"gmner"} and all("GEM" in source for source, _, _ in lacking)


def test_table_sets_the_papers_figures_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, made, table = sweep_tools.folder(tmp_path / "gmner"), sweep_tools.tools(), tmp_path / "t.json"
    (root / "knowledge").mkdir()
    write_rows(root / "knowledge" / "dev.jsonl", [{"id": str(n), "knowledge": "none"} for n in (1, 2)])
    monkeypatch.setattr("namepin.agent.workflows.predict.evaluated_pin", lambda *_: sweep_tools.pin(made))
    adapter = tmp_path / "out" / "gem-roberta-gmner" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "namepin.json").write_text('{"settings": {"seed": 7}}')
    monkeypatch.chdir(tmp_path)
    result = run("gem-table5", "--dataset", "gmner", "--root", root, "--json", table)
    rows = {row["name"]: row for row in json.loads(table.read_text())["rows"]}
    ours = rows["ChatGPT"]
    assert ours["paper"]["span.f1"] == pytest.approx(0.8842) and ours["paper"]["mner.f1"] is None
    assert ours["difference"]["span.f1"] == pytest.approx(ours["cells"]["span.f1"]["value"] - 0.8842)
    assert (ours["n"], ours["seeds"], ours["paper_release"]) == (2, [7], "Twitter-GMNER v1 test")
    other = rows["LLaMA2-7B"]
    assert not other["cells"] and other["difference"]["span.f1"] is None
    assert other["before"][0].startswith("namepin finetune tagger --config gem")
    assert "these commands fill it:" in result.stdout and other["before"][0] in result.stdout
    assert other["command"] in result.stdout and "87.82" in result.stdout and "+11.58" in result.stdout


def test_ablate_lists_published_systems_below_the_rows_as_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no weights of this checkout
    root, file, page = write_world(tmp_path / "world"), tmp_path / "table.json", tmp_path / "table.html"
    ran = run("mllm", "--dataset", "gmner", "--root", root, "--json", file, "--html", page)
    table = json.loads(file.read_text("utf-8"))
    assert [row["name"] for row in table["rows"]] == ["zero-shot", "few-shot", "SFT", "SFT + GRPO", "gate-mixed"]
    theirs = {row["system"]: row["f1"] for row in table["theirs"]}
    assert list(theirs) == ["MCR (2026)", "E2E-GMNER (2026)", "UnCo (2025)", "MAKAR (2025)", "GPT-4o, 3-shot"]
    assert theirs["MCR (2026)"] == {"gmner": 73.4, "mner": 82.8} and theirs["UnCo (2025)"] == {}
    assert all(row["source"] and row["note"] for row in table["theirs"]), "where it stands, or that it was not found"
    assert "E2E-GMNER (2026), theirs: ACL 2026 Findings" in ran.stdout
    assert "a file that must be made: python -m namepin.evals.shots" in ran.stdout
    assert "MCR (2026), theirs" in page.read_text("utf-8") and "73.40" in page.read_text("utf-8")
