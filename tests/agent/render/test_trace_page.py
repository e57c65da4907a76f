"""`namepin trace`: the page of a recorded run, in text and in a real browser."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.config.settings import Settings
from namepin.agent.render.trace import Run, read_runs, trace_page
from namepin.graphs.calls import LiveCalls
from namepin.graphs.recording.recorder import Recorder
from namepin.tools.errors import NamepinError
from namepin.tools.images.heatmap import to_blob
from namepin.tools.interfaces import Trace, TraceRequest, Traces
from namepin.tools.media import Media
from namepin.tools.types import Extraction
from support.paths import ROOT
from support.recording import reseal
from support.scripted_tools import ScriptedKnowledge, ScriptedTracer, down, make_tools

NASTY = '<img src=x onerror="document.title=1">Anna</pre><script>document.title=2</script> met Zorin in Oslo'
CASSETTE = ROOT / "tests" / "graphs" / "cassettes" / "gem"


class WarmTracer(ScriptedTracer):
    """A map for every name, warm in its last row."""

    def answer(self, request: TraceRequest, media: Media) -> Traces:
        warm = np.zeros((6, 8), dtype=np.float32)
        warm[5] = 1
        return Traces(traces=tuple(Trace(peak=(4, 44), heat=media.put_blob(to_blob(warm))) for _ in request.queries))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "photo.png")
    tools = make_tools(knowledge=ScriptedKnowledge(fail=down("knowledge")), tracer=WarmTracer())
    pin = Namepin(Settings(profile="<b>test</b>"), LiveCalls(tools))
    prepared = pin.ready({"id": "a<b>", "text": NASTY, "image": str(tmp_path / "photo.png")})

    async def run() -> list[Any]:
        with Recorder(tmp_path / "run", graph=pin.graph.name, profile={"profile": "<b>test</b>"}) as recorder:
            return [event async for event in pin.astream(prepared, recorder=recorder)]

    with ThreadPoolExecutor(1) as thread:  # Playwright's loop runs in this one
        thread.submit(lambda: asyncio.run(run())).result()
    return tmp_path


def test_trace_page_shows_steps_tools_and_decisions(recorded: Path) -> None:
    page = trace_page(read_runs(recorded / "run"))
    (run,) = read_runs(recorded / "run")
    for step in ("caption", "knowledge", "tag", "gate", "rerank", "match", "trace", "segment", "assemble"):
        assert f"<b>{step}</b>" in page
    for tool in make_tools().values():
        assert tool.fingerprint in page
    assert f"{run.extraction.timings_ms['matcher']:.1f} ms" in page
    assert "uncertain: reranked" in page and "1.2800" in page and "γ = 0.2" in page
    assert "within the margin" in page and "0.1985" in page and "0.7500" in page
    assert "down: no answer from http://***@host/v1" in page and "W103" in page
    assert "data:image/jpeg" not in page, "a cassette keeps no picture"


def test_trace_page_shows_heat_maps_of_matches(recorded: Path) -> None:
    (run,) = read_runs(recorded / "run")
    assert list(run.heat) == [0] and run.extraction.entities[0].text == "Anna"
    for images, grounds in ((None, 0), (recorded, 1)):
        page = trace_page(read_runs(recorded / "run", images))
        assert page.count('alt="Heat map of the match of Anna"') == 1 and "peak at 4, 44" in page
        assert page.count('background-image: url("data:image/jpeg') == grounds
    page = trace_page([replace(run, heat={0: b"Anna"})])
    assert "the recorded map cannot be read" in page and "data:image/png" not in page
    assert "Heat map" not in trace_page([Run(run.extraction)]), "a file of results has none"


def test_read_runs_with_invalid_steps_raises_e401(recorded: Path) -> None:
    reseal(recorded / "run", '"findings":[{"', '"findings":[{"x', -1)
    with pytest.raises(NamepinError, match=r"E401.*a<b>"):
        read_runs(recorded / "run")


def test_trace_page_with_markup_in_run_escapes_it(recorded: Path) -> None:
    page = trace_page(read_runs(recorded / "run", recorded))
    for markup in ("<img src=x", "<script", "</pre><", "<b>test"):
        assert markup not in page.replace("</pre></details>", "").replace("</pre><p", "").replace("</pre>\n", "")
    assert "data:image/jpeg" in page


def test_read_runs_accepts_predictions_file(recorded: Path) -> None:
    (run,) = read_runs(recorded / "run")
    (recorded / "predictions.jsonl").write_text(run.extraction.to_json() + "\n", "utf-8")
    (again,) = read_runs(recorded / "predictions.jsonl")
    assert isinstance(again.extraction, Extraction) and "<b>matcher</b>" in trace_page([again])


def test_read_runs_of_invalid_folder_file_or_picture_raises_e40x(tmp_path: Path, recorded: Path) -> None:
    with pytest.raises(NamepinError, match="E401"):
        read_runs(tmp_path / "nothing")
    (tmp_path / "empty.jsonl").write_text("{}\n")
    with pytest.raises(NamepinError, match="E401"):
        read_runs(tmp_path / "empty.jsonl")
    Image.new("RGB", (64, 48), "red").save(recorded / "photo.png")
    with pytest.raises(NamepinError, match="E406"):
        read_runs(recorded / "run", recorded)


def test_trace_command_writes_page_with_every_post(cli: Any, tmp_path: Path) -> None:
    ran = cli("trace", CASSETTE, "--out", tmp_path / "trace.html")
    assert ran.code == 0 and "open" in ran.err
    posts = [json.loads(line) for line in (CASSETTE / "cassette.jsonl").read_text("utf-8").splitlines()[:-1]]
    ids = {line["id"] for line in posts}
    page = (tmp_path / "trace.html").read_text("utf-8")
    assert page.count("<article") == len(ids)
    assert cli("trace", tmp_path / "no").code != 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_trace_page_in_browser_renders_without_requests(browser: Any, recorded: Path, scheme: Any) -> None:
    file = recorded / "trace.html"
    file.write_text(trace_page(read_runs(recorded / "run", recorded)), "utf-8")
    tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    asked: list[str] = []
    said: list[str] = []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("console", lambda m: said.append(m.text))
    tab.on("pageerror", lambda e: said.append(str(e)))
    tab.goto(file.as_uri())
    assert tab.title() == "Namepin trace: a<b>" and said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert tab.locator(".text").inner_text() == NASTY
    assert tab.locator("article script, article img[src=x]").count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    (ground,) = tab.eval_on_selector_all(".maps img", "all => all.map(i => getComputedStyle(i).backgroundImage)")
    assert ground.startswith('url("data:image/jpeg') and tab.locator(".maps img").evaluate("i => i.naturalWidth") == 64
    assert tab.locator(".stage rect").count() == 1 and tab.locator(".stage img").evaluate("i => i.naturalWidth") > 0
    widths = tab.eval_on_selector_all(".bar rect", "bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert max(widths) > 50, "the bars have their lengths"
    tab.locator("summary", has_text="1 call").first.click()
    assert "a picture of 64 by 48" in tab.locator("details[open] pre").nth(1).inner_text()
    tab.close()
