"""Untrusted text in every page of Namepin in a real browser: no script runs and nothing is loaded."""

from pathlib import Path
from typing import Any

import pytest

from namepin.agent.chat.state import Answer
from namepin.agent.render.html import About, page
from namepin.agent.render.trace import read_runs, trace_page
from namepin.agent.server.jobs import Job, Skipped
from namepin.agent.web import fragments
from namepin.agent.web.job_results import ShownName, ShownRow
from namepin.agent.web.steps import Steps
from namepin.evals.report.full import full_report
from namepin.evals.report.html import write_page
from namepin.evals.scoring.predictions import check
from namepin.graphs.step import StepEvent
from support.eval_samples import dataset, entity, from_gold, gold
from support.hostile_texts import PAYLOADS, item_of

pytestmark = pytest.mark.slow
TRIP = "window.ran = 0; window.pwn = () => { window.ran += 1 }"
TOUCH = """for (const element of document.querySelectorAll("*"))
    for (const kind of ["mouseover", "focus", "error", "load", "click"])
        if (kind !== "click" || !element.closest("a[download]")) element.dispatchEvent(new Event(kind))"""
LIVE = "[href^='javascript:'], [srcdoc], base, iframe, object, [onload], [onerror], [onfocus], [onmouseover]"


def results(_: Path) -> str:
    return page([item_of(payload) for payload in PAYLOADS], About(PAYLOADS[0], 0.2))


def traces(folder: Path) -> str:
    rows = [item_of(payload).extraction.to_json() + "\n" for payload in PAYLOADS]
    (folder / "predictions.jsonl").write_text("".join(rows), "utf-8")
    return trace_page(read_runs(folder / "predictions.jsonl"))


def report(folder: Path) -> str:
    """As `namepin eval --html` writes it."""
    texts = [f"{payload} met Ada" for payload in PAYLOADS]
    made = [gold(f"{i}{text}", text, (0, len(text.split()) - 2, "PER")) for i, text in enumerate(texts)]
    data = dataset(*made)
    scores = {"scores": {"PER": 0.8, "LOC": 0.2}, "entropy": 0.5, "match_score": 0.7}
    rows = [("", {"id": one.post.id, "entities": [entity(0, 1, "LOC", **scores)]}) for one in made]
    found = check(rows, data)
    told = full_report(data, found, against=check([("", row) for row in from_gold(data)], data))
    write_page(folder / "report.html", data, found, told, PAYLOADS[0])
    return (folder / "report.html").read_text("utf-8")


def conversation(_: Path) -> str:
    turns = []
    for payload in PAYLOADS:
        answers = [
            Answer(kind="extraction", words=payload, extraction=item_of(payload).extraction),
            Answer(kind="explanation", words=payload),
            Answer(kind="refusal", words=payload),
            Answer(kind="comparison", words=payload, table=[{payload: payload, "b": payload}]),
        ]
        blocks = [fragments.Block(one, "r" + "0" * 16, About(payload, 0.2), "data:,") for one in answers]
        steps = Steps()
        steps.add(StepEvent(payload, "started"))
        turns.append(fragments.turn(fragments.Turn(payload, blocks, payload, steps, [payload])))
        turns.append(fragments.problem(payload))
    return f"<!doctype html><meta charset=utf-8><body>{''.join(turns)}"


def jobs(_: Path) -> str:
    failed = [Job(id="0" * 32, name=one, profile=one, posts=1, state="failed", error=one) for one in PAYLOADS]
    skipped = [Skipped(where=one, message=one) for one in PAYLOADS]
    rows = [ShownRow(one, one, "", [ShownName(one, one, one, "yes")], "") for one in PAYLOADS]
    parts = [
        fragments.part("jobs", jobs=failed, per_page=100),
        fragments.part("job_skipped", skipped=skipped),
        fragments.part("job_rows", rows=rows, more=None, step=50, job="0" * 32),
    ]
    return f"<!doctype html><meta charset=utf-8><body>{''.join(parts)}"


def open_page(browser: Any, html: str, folder: Path) -> tuple[int, int, list[str]]:
    """How often a script of the texts ran, how many elements could run one, and what was asked for."""
    path = folder / "page.html"
    path.write_text(html, "utf-8")
    context = browser.new_context(accept_downloads=True)
    context.add_init_script(TRIP)
    tab, asked = context.new_page(), list[str]()
    tab.on("request", lambda request: asked.append(request.url))
    try:
        tab.goto(path.as_uri())
        tab.evaluate(TOUCH)
        ran, live = tab.evaluate("window.ran"), tab.locator(LIVE).count()
    finally:
        context.close()
    return ran, live, [url for url in asked if "pwn" in url]


@pytest.mark.parametrize("made", [results, traces, report, conversation, jobs], ids=lambda made: str(made.__name__))
def test_html_pages_in_browser_with_payloads_run_and_load_nothing(browser: Any, tmp_path: Path, made: Any) -> None:
    html = made(tmp_path)
    assert html.count("pwn") >= len(PAYLOADS), "they are all shown"
    assert open_page(browser, html, tmp_path) == (0, 0, [])


@pytest.mark.parametrize("payload", ["<script>pwn()</script>", "<svg/onload=pwn()>", "<img src=x onerror=pwn()>"])
def test_unescaped_payload_in_browser_runs_script(browser: Any, tmp_path: Path, payload: str) -> None:
    assert open_page(browser, f"<!doctype html><body>{payload}", tmp_path)[0] > 0
