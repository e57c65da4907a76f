"""Traces as they arrive at a real HTTP endpoint: LangSmith's and OpenTelemetry's."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from langsmith import utils
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.chat.terminal import Terminal
from namepin.agent.config.sections import TracingSettings
from namepin.agent.config.settings import load_settings
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.agent.tracing import langsmith as to_langsmith
from namepin.agent.tracing import otel
from namepin.agent.tracing.runs import flush
from namepin.tools.types import Extraction
from support.langsmith_server import Store, langsmith_server
from support.loopback import serving
from support.paths import ROOT
from support.scripted_tools import ScriptedTagger, make_tools
from support.traced_pin import TEXT, pin

SECRET = "lsv2_pt_0123456789abcdef"


@pytest.fixture(autouse=True)
def _settings_of_langsmith_are_read_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    caches = (utils.get_env_var, utils.get_tracer_project, to_langsmith.client_of, otel.provider_of)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setenv("SOME_PASSWORD", "hunter2hunter2")
    yield
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def switched_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def switch(address: str) -> None:
        monkeypatch.setenv("LANGSMITH_TRACING", "true")
        monkeypatch.setenv("LANGSMITH_ENDPOINT", address)
        monkeypatch.setenv("LANGSMITH_API_KEY", SECRET)
        monkeypatch.setenv("LANGSMITH_PROJECT", "pins")

    return switch


@pytest.fixture
def store(switched_on: Callable[[str], None]) -> Iterator[Store]:
    with langsmith_server() as server:
        switched_on(server.address)
        yield server


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(buffer, "PNG")
    return buffer.getvalue()


def traced(given: Namepin, text: str = TEXT) -> Extraction:
    result = given.extract({"id": "post-7", "text": text}, picture())
    flush(given.settings.tracing, 5)
    return result


def without_times(extraction: Extraction) -> Extraction:
    return extraction.model_copy(update={"timings_ms": {}})


def by_name(store: Store) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in store.runs.values()}


def metadata(run: dict[str, Any]) -> dict[str, Any]:
    return run["extra"]["metadata"]


def test_langsmith_trace_is_tree_with_decisions(store: Store) -> None:
    result = traced(pin())
    runs = by_name(store)
    root = runs["gem-2"]
    assert root.get("parent_run_id") is None and root["session_name"] == "pins"
    assert {"profile:test", "dataset:tweets"} <= set(root["tags"])
    about = metadata(root)
    assert about["post"] == "post-7" and about["fingerprint"] == result.fingerprint
    assert about["image_sha256"] == result.image.sha256 and about["image_width"] == 64  # type: ignore[union-attr]
    steps = ["caption", "knowledge", "tag", "gate", "rerank", "match", "trace", "segment", "assemble"]
    chains = {run["name"]: run for run in store.runs.values() if run["run_type"] == "chain"}
    assert all(chains[step]["parent_run_id"] == root["id"] for step in steps)
    for step, tool in {"tag": "tagger", "match": "matcher", "segment": "segmenter", "rerank": "reranker"}.items():
        made = [run for run in store.runs.values() if run["name"] == tool]
        parents = {store.runs[run["parent_run_id"]]["name"] for run in made}
        assert parents == {step} and {run["run_type"] for run in made} == {"tool"}
        assert all(metadata(run)["fingerprint"] == make_tools()[tool].fingerprint for run in made)
        assert all(metadata(run)["ms"] > 0 and run["end_time"] > run["start_time"] for run in made)
    tagged = metadata(runs["tagger"])
    assert tagged["entropy"] == [0.056, 1.28, 0.1985] and tagged["gate"] == ["sure", "hard", "sure"]
    assert tagged["near_gamma"] == [False, False, True] and tagged["gamma"] == 0.2
    assert metadata(runs["reranker"])["entropy"] == [1.28] and metadata(runs["reranker"])["label"] == "company"
    assert metadata(runs["matcher"])["match_score"] == [0.75, 0.25, 0.25]
    assert metadata(runs["matcher"])["in_picture"] == [True, False, False]
    assert [e["text"] for e in root["outputs"]["entities"]] == ["Anna", "Zorin", "Oslo"]
    assert runs["tagger"]["inputs"]["text"] == TEXT and not store.attachments


def test_langsmith_trace_of_failure_contains_no_secret_or_path(store: Store) -> None:
    told = "sk-0123456789abcdef hunter2hunter2 at http://me:pass@host/"
    fails = ScriptedTagger(fail=lambda attempt: OSError(f"{told} {Path.cwd()}"))
    with pytest.raises(OSError, match="hunter2"):
        traced(pin(fails))
    flush(TracingSettings(), 5)
    sent = b"".join(store.bodies)
    assert b"OSError" in sent and store.keys == {SECRET}
    for secret in (SECRET, "hunter2", "sk-0123", "me:pass", str(Path.cwd()), str(Path.home()), sys.prefix):
        assert secret.encode() not in sent, secret


def test_langsmith_trace_with_redact_contains_no_post_text(store: Store) -> None:
    traced(pin(redact=True))
    with pytest.raises(ValueError, match="Anna"):
        traced(pin(ScriptedTagger(fail=lambda attempt: ValueError("what is Anna?")), redact=True))
    flush(TracingSettings(redact=True), 5)
    sent = b"".join(store.bodies)
    for word in (b"Anna", b"Zorin", b"Oslo", b"a picture of", b"post-7"):
        assert word not in sent, word
    assert b"ValueError" in sent
    matcher = next(r for r in store.runs.values() if r["name"] == "matcher")
    assert metadata(matcher)["match_score"] == [0.75, 0.25, 0.25] and not matcher.get("inputs")


def test_langsmith_trace_with_images_attaches_picture(store: Store) -> None:
    traced(pin(images=True))
    root = by_name(store)["gem-2"]
    (attached,) = {name: part for name, part in store.attachments.items()}.items()
    assert attached[0] == f"attachment.{root['id']}.picture" and attached[1][0] == "image/jpeg"
    assert Image.open(io.BytesIO(attached[1][1])).size == (64, 48)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (1.0, 3)])
def test_langsmith_sampling_keeps_or_drops_whole_runs(store: Store, rate: float, expected: int) -> None:
    given = pin(sample=rate)
    for _ in range(3):
        traced(given)
    assert sum(run["name"] == "gem-2" for run in store.runs.values()) == expected
    assert bool(store.runs) == bool(expected)


def test_langsmith_without_switch_receives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with langsmith_server() as server:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", server.address)
        monkeypatch.setenv("LANGSMITH_API_KEY", SECRET)
        traced(pin())
        assert not server.bodies and not server.keys


class Broken(ThreadingHTTPServer):
    """Answers 500, or, told to hang, not at all."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, hang: bool) -> None:
        super().__init__(("127.0.0.1", 0), BrokenHandler)
        self.hang, self.asked, self.end = hang, 0, Event()


class BrokenHandler(BaseHTTPRequestHandler):
    server: Broken

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.server.hang:
            self.server.end.wait()
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def broken(hang: bool) -> Iterator[Broken]:
    with serving(Broken(hang)) as server:
        try:
            yield server
        finally:
            server.end.set()


@pytest.mark.parametrize("how", ["down", "hangs", "500"])
def test_tracing_with_failing_endpoint_leaves_results_unchanged(
    how: str, switched_on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = without_times(pin().extract({"id": "p", "text": TEXT}, picture()))
    with broken(hang=how == "hangs") as server:
        address = f"http://127.0.0.1:{server.server_port}" if how != "down" else "http://127.0.0.1:9"
        switched_on(address)
        utils.get_env_var.cache_clear()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        given = pin(otel=True)
        given.extract("Warm up")  # imports
        with caplog.at_level(logging.WARNING):
            for _ in range(10):
                assert without_times(given.extract({"id": "p", "text": TEXT}, picture())) == expected
            flush(given.settings.tracing, 1)
            assert not server.end.is_set(), "one that hangs would do so for ever"
        assert server.asked or how == "down"
        said = [r for r in caplog.records if r.name.startswith(("langsmith", "opentelemetry", "urllib3"))]
        assert len(said) <= 4, [r.getMessage() for r in said]
        assert SECRET not in caplog.text


class Collector(ThreadingHTTPServer):
    """An OTLP/HTTP receiver that decodes what it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: set[str] = set()

    def spans(self) -> list[Any]:
        return [
            s for r in self.requests for group in r.resource_spans for scope in group.scope_spans for s in scope.spans
        ]


class CollectorHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/x-protobuf"
        self.server.paths.add(self.path)
        self.server.requests.append(
            ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        )
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with serving(Collector()) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server


def attributes(span: Any) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        return [plain(v) for v in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {item.key: plain(item.value) for item in span.attributes}


def test_otel_trace_is_tree_with_decisions(collector: Collector) -> None:
    result = traced(pin(otel=True))
    spans = {span.name: span for span in collector.spans()}
    assert collector.paths == {"/v1/traces"}
    root = spans["gem-2"]
    assert not root.parent_span_id and {s.trace_id for s in spans.values()} == {root.trace_id}
    assert attributes(root)["namepin.fingerprint"] == result.fingerprint
    assert "profile:test" in attributes(root)["namepin.tags"]
    assert spans["tag"].parent_span_id == root.span_id and spans["tagger"].parent_span_id == spans["tag"].span_id
    tagged, matched = attributes(spans["tagger"]), attributes(spans["matcher"])
    assert tagged["namepin.entropy"] == [0.056, 1.28, 0.1985] and tagged["namepin.gate"] == ["sure", "hard", "sure"]
    assert matched["namepin.match_score"] == [0.75, 0.25, 0.25]
    assert matched["namepin.fingerprint"] == make_tools()["matcher"].fingerprint
    assert spans["matcher"].end_time_unix_nano > spans["matcher"].start_time_unix_nano
    sent = b"".join(request.SerializeToString() for request in collector.requests)
    assert b"Zorin" not in sent and b"hunter2" not in sent


def test_otel_trace_of_failure_omits_message_text(collector: Collector) -> None:
    with pytest.raises(ValueError, match="Anna"):
        traced(pin(ScriptedTagger(fail=lambda attempt: ValueError("what is Anna?")), otel=True))
    flush(TracingSettings(otel=True), 5)
    spans = {span.name: span for span in collector.spans()}
    assert spans["tagger"].status.code == 2 and spans["tagger"].status.message == "ValueError"
    assert b"Anna" not in b"".join(request.SerializeToString() for request in collector.requests)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (1.0, 1)])
def test_otel_sampling_keeps_or_drops_whole_runs(collector: Collector, rate: float, expected: int) -> None:
    traced(pin(otel=True, sample=rate))
    assert sum(span.name == "gem-2" for span in collector.spans()) == expected


async def test_chat_trace_with_redact_is_one_tree_without_text(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMEPIN_DATA_DIR", str(tmp_path))
    given = pin(redact=True)
    monkeypatch.setattr(ProfilePool, "get", lambda self, profile, overrides=None: given)
    terminal = Terminal(load_settings(), (), None)
    terminal.console.file = io.StringIO()
    await terminal.run(io.StringIO(TEXT))
    flush(given.settings.tracing, 5)
    roots = {run["name"] for run in store.runs.values() if not run.get("parent_run_id")}
    assert roots == {"namepin-chat"} and "gem-2" in by_name(store)
    assert all(word not in b"".join(store.bodies) for word in (b"Anna", b"Zorin", b"Oslo"))


def test_replay_sends_no_trace(store: Store, cli: Any) -> None:
    ran = cli("replay", ROOT / "tests" / "graphs" / "cassettes" / "gem", "--check")
    assert ran.code == 0, ran.err
    flush(TracingSettings(), 5)
    assert not store.runs


SCRIPT = """
import sys
sys.path[:0] = {path!r}
from namepin.agent.tracing import langsmith, otel
assert langsmith.AT_EXIT_S == otel.AT_EXIT_S == 3
langsmith.AT_EXIT_S = otel.AT_EXIT_S = 0.3
from support.traced_pin import TEXT, pin
print(len(pin(otel={otel}).extract(TEXT).entities), flush=True)
"""


def test_process_exit_with_hanging_trace_endpoint_does_not_wait() -> None:
    path = [str(ROOT / "tests")]
    with broken(hang=True) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        to = {"LANGSMITH_ENDPOINT": address, "LANGSMITH_API_KEY": SECRET, "OTEL_EXPORTER_OTLP_ENDPOINT": address}
        env = {"PATH": os.environ["PATH"], "LANGSMITH_TRACING": "true", **to}
        command = [sys.executable, "-c", SCRIPT.format(path=path, otel=True)]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert not server.end.is_set(), "the endpoint would hang for ever"
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["3"]
    assert ran.stderr.count("\n") <= 3, ran.stderr
