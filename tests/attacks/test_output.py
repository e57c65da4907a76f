"""Untrusted text in all of Namepin's output: HTML pages, terminals, CSV and logs."""

import csv
import io
import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from namepin.agent.chat.answers import remember, show
from namepin.agent.chat.state import Answer
from namepin.agent.chat.terminal import _visible as visible
from namepin.agent.render.html import About, page
from namepin.agent.render.table import print_table
from namepin.agent.render.trace import read_runs, trace_page
from namepin.agent.server.jobs import Job, Jobs, Skipped
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.agent.web import fragments
from namepin.agent.web.job_results import ShownName, ShownRow
from namepin.agent.web.steps import Steps
from namepin.graphs.step import StepEvent
from support.agent_samples import placed, post_view
from support.hostile_texts import PAYLOADS, item_of

STEERS = [
    "\x1b[2J",
    "\x1b]0;pwn\x07",
    "\x1b]8;;http://pwn.example\x1b\\x",
    "\x9b31m",
    "a\rb",
    "a\x08b",
    "\u202eevil\u202c",
    "a\nfake line",
]


class Inert(HTMLParser):
    """Fails where a payload is anything but text, or the quoted value of an attribute that does nothing."""

    tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        assert "pwn" not in tag
        for name, value in attrs:
            assert "pwn" not in name
            if name.startswith("on") or name in ("href", "src", "srcdoc", "action", "data", "style", "content"):
                assert "pwn" not in (value or "").casefold(), (name, value)

    def handle_endtag(self, tag: str) -> None:
        self.tag = ""

    def handle_data(self, data: str) -> None:
        assert self.tag not in ("script", "style") or "pwn" not in data

    def handle_comment(self, data: str) -> None:
        assert "pwn" not in data


def inert(html: str) -> None:
    parser = Inert()
    parser.feed(html)
    parser.close()
    assert "pwn" in html, "the payload is shown"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_html_pages_with_markup_payload_show_it_as_text(payload: str, tmp_path: Path) -> None:
    item = item_of(payload)
    about = About(payload, 0.2)
    inert(page([item], about))
    (tmp_path / "predictions.jsonl").write_text(item.extraction.to_json() + "\n", "utf-8")
    inert(trace_page(read_runs(tmp_path / "predictions.jsonl")))
    table = [{payload: payload, "b": payload}]
    for answer in (
        Answer(kind="extraction", words=payload, extraction=item.extraction),
        Answer(kind="explanation", words=payload),
        Answer(kind="refusal", words=payload),
        Answer(kind="export", words=payload),
        Answer(kind="comparison", words=payload, table=table),
    ):
        block = fragments.Block(answer, "r" + "0" * 16, about, "/page/pictures/x.jpg")
        inert(fragments.turn(fragments.Turn(payload, [block], payload, steps_of(payload), [payload])))
    inert(fragments.problem(payload))
    inert(fragments.end(payload))
    inert(fragments.part("spoken", text=payload))
    told = {"name": payload, "profile": payload, "error": payload}
    inert(
        fragments.part("jobs", jobs=[Job(id="0" * 32, posts=1, done=1, state="failed", skipped=1, **told)], per_page=1)
    )
    inert(fragments.part("job_skipped", skipped=[Skipped(where=payload, message=payload)]))
    name = ShownName(payload, payload, payload, "yes")
    for row in (ShownRow(payload, payload, "0" * 64, [name], ""), ShownRow(payload, payload, "", [], payload)):
        inert(fragments.part("job_rows", rows=[row], more=None, step=50, job="0" * 32))


def steps_of(payload: str) -> Steps:
    """Steps of a running answer, one with an unknown name and one with a note."""
    steps = Steps()
    steps.add(StepEvent(payload, "started"))
    steps.add(StepEvent("tag", "started"))
    steps.add(StepEvent("tag", "finished", summary=payload))
    return steps


@pytest.mark.parametrize("payload", STEERS)
def test_terminal_output_with_escape_payload_contains_no_control_codes(payload: str) -> None:
    item, out = item_of(payload), io.StringIO()
    print_table(item.extraction, out, True)
    chat = visible(show(remember(item.extraction, "starter", {}), "table").words)
    for text in (out.getvalue(), chat):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text), repr(text)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "＋", "－", "＠"])
def test_csv_cells_with_formula_names_start_without_formula_sign(start: str) -> None:
    name = f"{start}HYPERLINK(1)"
    text = f"{name} met Ada"
    item = post_view(text, placed(text, name, (10.0, 10.0, 90.0, 90.0), evidence=name, expression=name))
    said = show(remember(item.extraction, "starter", {}), "csv").words
    cells = [cell for row in csv.reader(io.StringIO(said)) for cell in row]
    assert any("HYPERLINK" in cell for cell in cells)
    assert not [cell for cell in cells if cell.lstrip()[:1] in tuple("=+-@＝＋－＠") and "HYPERLINK" in cell]


def test_jobs_log_with_hostile_file_name_stays_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x\nERROR pwn\x1b[2J").touch()
    with caplog.at_level(logging.ERROR):
        Jobs(tmp_path, ProfilePool(["starter"]), 5)._owners_waiting()
    (message,) = [record.getMessage() for record in caplog.records]
    assert "pwn" in message and "\n" not in message and "\x1b" not in message
