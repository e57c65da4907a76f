"""The commands as people use them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from namepin.tools.errors import install_command
from namepin.tools.types import Extraction
from support.cli import Cli
from support.paths import ROOT
from support.recording import reseal

POST = "Eileen Collins commanded the Space Shuttle for NASA"
PHOTO = ROOT / "examples" / "astronaut.jpg"


def test_extract_without_format_prints_table_of_80_columns(cli: Cli) -> None:
    ran = cli("extract", POST)
    assert ran.code == 0
    assert ran.err == ""
    assert POST in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines())


def test_extract_with_out_writes_predictions_page_and_picture(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "results"
    ran = cli("extract", POST, "--image", PHOTO, "--out", out, "--format", "json")
    assert ran.code == 0
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "post.png", "predictions.jsonl"]
    assert (out / "predictions.jsonl").read_text() == ran.out
    extraction = Extraction.model_validate_json(ran.out)
    assert extraction.image is not None and (extraction.image.width, extraction.image.height) == (512, 512)
    with Image.open(out / "post.png") as drawn:
        assert drawn.width >= 512
    html = (out / "index.html").read_text()
    assert html.startswith("<!doctype html>") and "<fieldset" not in html, "a tracer without heat maps has no toggle"
    assert str(out / "index.html") in ran.err


def test_extract_with_html_format_prints_whole_page(cli: Cli) -> None:
    ran = cli("extract", POST, "--format", "html")
    assert ran.code == 0
    assert ran.out.startswith("<!doctype html>") and ran.out.rstrip().endswith("</html>")


def test_extract_of_posts_file_keeps_order_ids_and_extras(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PHOTO.read_bytes())
    rows = [
        {"id": "z", "tokens": ["Ada", "in", "Oslo"], "image": None, "lang": "en"},
        {"id": "a/b", "text": POST, "image": "p.png"},
    ]
    posts = tmp_path / "posts.jsonl"
    posts.write_text("\n".join(map(json.dumps, rows)))
    ran = cli("extract", "--posts", posts, "--format", "json", "--out", tmp_path / "out")
    assert ran.code == 0
    first, second = map(json.loads, ran.out.splitlines())
    assert (first["id"], first["tokens"], first["text"]) == ("z", ["Ada", "in", "Oslo"], "Ada in Oslo")
    assert first["extra"] == {"lang": "en"} and "extra" not in second
    assert second["image"]["width"] == 512
    assert (tmp_path / "out" / "a=2Fb.png").exists()


def test_extract_with_set_threshold_changes_grounding(cli: Cli) -> None:
    ran = cli("extract", POST, "--image", PHOTO, "--format", "json", "--set", "match.threshold=1")
    assert not any(entity["groundable"] for entity in json.loads(ran.out)["entities"])


def test_replay_of_recorded_cassette_equals_recording(cli: Cli, tmp_path: Path) -> None:
    cassette = tmp_path / "cassette"
    recorded = cli("extract", POST, "--image", PHOTO, "--record", cassette, "--format", "json")
    assert recorded.code == 0
    replayed = cli("replay", cassette, "--check")
    assert (replayed.code, replayed.out) == (0, recorded.out)
    assert "nothing differs" in replayed.err
    strict = cli("replay", cassette, "--set", "match.threshold=1")
    assert strict.code == 0
    assert not any(entity["groundable"] for entity in json.loads(strict.out)["entities"])
    assert str(tmp_path) not in (cassette / "cassette.jsonl").read_text()


def test_replay_with_fill_computes_missing_calls(cli: Cli, tmp_path: Path) -> None:
    cassette = tmp_path / "cassette"
    cli("extract", POST, "--image", PHOTO, "--record", cassette, "--set", "match.threshold=1")
    changed = ("replay", cassette, "--set", "match.threshold=0")
    lacking = cli(*changed)
    assert lacking.code == 2 and "--fill" in lacking.err
    blind = cli(*changed, "--fill")
    assert blind.code == 2 and "--images" in blind.err
    filled = cli(*changed, "--fill", "--images", PHOTO.parent)
    assert filled.code == 0, filled.err
    one, two = (json.loads(ran.out) | {"timings_ms": None} for ran in (cli(*changed), filled))
    assert one == two, "the calls were kept"


def test_replay_check_of_diverging_cassette_exits_4(cli: Cli, tmp_path: Path) -> None:
    cassette = tmp_path / "cassette"
    cli("extract", POST, "--record", cassette)
    reseal(cassette, '"status":"ok"', '"status":"degraded"')
    ran = cli("replay", cassette, "--check")
    assert ran.code == 4
    assert "degraded" in ran.err


def test_doctor_of_starter_profile_reports_all_tools_ok(cli: Cli) -> None:
    ran = cli("doctor", "--json")
    report = json.loads(ran.out)
    assert ran.code == 0 and report["ok"]
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert states["tagger"] == states["matcher"] == states["trial"] == "ok"
    assert states["knowledge"] == "off"
    sizes = {check["name"]: check["megabytes"] for check in report["checks"]}
    assert sizes["tagger"] > 50


def test_doctor_with_missing_adapter_and_server_names_both(cli: Cli) -> None:
    server = ("--set", "knowledge.model=x", "--set", "knowledge.base_url=http://127.0.0.1:9/v1")
    ran = cli("doctor", "--set", "tagger.adapter=/nowhere", *server)
    assert ran.code == 3
    words = " ".join(ran.out.split())
    assert "lacks: knowledge, tagger" in words
    assert "no answer from 127.0.0.1:9" in words


@pytest.mark.parametrize(
    "arguments", [(), ("--help",), ("extract", "-h"), ("finetune",), ("data",), ("finetune", "tagger", "-h")]
)
def test_help_option_prints_usage_and_exits_0(cli: Cli, arguments: tuple[str, ...]) -> None:
    ran = cli(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert "Usage: namepin" in ran.out


def test_version_option_prints_version(cli: Cli) -> None:
    assert cli("--version").out == "namepin 0.1.0\n"


def test_cli_with_internal_error_prints_one_line_and_exits_70(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr("namepin.agent.config.settings.load_settings", broken)
    ran = cli("extract", POST)
    assert ran.code == 70
    (line,) = ran.err.splitlines()
    assert "ZeroDivisionError: oh no" in line and "NAMEPIN_DEBUG" in line
    monkeypatch.setenv("NAMEPIN_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli("extract", POST)


def test_finetune_without_accelerate_raises_e301_with_pip_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {lacked!r}", name=lacked)

    monkeypatch.setattr("namepin.agent.cli.finetune.import_module", missing)
    lacked = "accelerate"
    ran = cli("finetune", "matcher", "--set", "root=world")
    assert (ran.code, ran.out) == (3, "")
    assert (
        ran.err.splitlines()[-1]
        == f"error: E301: finetune matcher needs the package 'accelerate'; {install_command('namepin[gpu]')}"
    )
    lacked = "namepin.finetune.matcher"
    assert cli("finetune", "matcher", "--set", "root=world").code == 70, "a module of our own is a bug"


def test_cli_on_keyboard_interrupt_exits_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("namepin.agent.config.settings.load_settings", interrupted)
    ran = cli("extract", POST)
    assert (ran.code, ran.err) == (130, "error: stopped\n")


def test_cli_import_for_help_loads_no_model_library() -> None:
    heavy = {*("torch", "transformers", "cv2", "rapidocr", "langgraph", "langchain_core", "numpy", "PIL", "jinja2")}
    heavy |= {"pydantic", "asyncio"}
    check = f"import namepin.agent.cli.main, namepin, sys; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_extract_into_closed_pipe_exits_0(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'from namepin.agent.cli.main import run; run()' extract --help | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT, env={**os.environ}
    )
    assert (done.returncode, done.stderr) == (0, "")
