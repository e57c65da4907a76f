"""OpenTelemetry: the same tree as spans, by OTLP over HTTP. Spans hold numbers and decisions, never a post's text."""

import atexit
import os
import re
from collections.abc import Mapping
from functools import cache
from threading import Event, Thread
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, Status, StatusCode, Tracer, set_span_in_context

from namepin.agent.config.sections import TracingSettings
from namepin.agent.tracing.log_throttle import throttle

TIMEOUT_S, AT_EXIT_S = 5, 3.0
_PREFIX = "namepin."


class Provider(TracerProvider):
    """A provider whose flush is bounded; OpenTelemetry's own flush waits for its exporter and ignores the timeout."""

    def __init__(self, **about: Any) -> None:
        super().__init__(shutdown_on_exit=False, **about)
        # The thread starts early, since an ending process cannot start a thread.
        self._asked, self._sent = Event(), Event()
        Thread(target=self._flushing, daemon=True, name="namepin-otel-flush").start()
        atexit.register(self.flush_within, AT_EXIT_S)

    def flush_within(self, seconds: float) -> None:
        """Wait until the spans are sent, at most for the timeout."""
        self._sent.clear()
        self._asked.set()
        self._sent.wait(seconds)

    def _flushing(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            self.force_flush()
            self._sent.set()


@cache
def provider_of(sample: float | None) -> Provider:
    """The process's provider. It is not the global provider, so an application's own provider stays in place."""
    throttle("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")
    rate = float(os.environ.get("LANGSMITH_TRACING_SAMPLING_RATE") or 1) if sample is None else sample
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "namepin")})
    provider = Provider(resource=resource, sampler=ParentBased(TraceIdRatioBased(rate)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=TIMEOUT_S)))
    return provider


class SpanHandler(BaseCallbackHandler):
    """Creates a span for every run that LangChain's callbacks report."""

    run_inline = True

    def __init__(self, settings: TracingSettings) -> None:
        self._tracer: Tracer = provider_of(settings.sample).get_tracer("namepin")
        self._spans: dict[UUID, Span] = {}

    def note(self, run_id: UUID, metadata: Mapping[str, Any]) -> None:
        """Add attributes with the prefix `namepin.` to a run's span."""
        if span := self._spans.get(run_id):
            for name, value in metadata.items():
                span.set_attribute(_PREFIX + name, value)

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **about: Any) -> None:
        """The graph or one of its steps begins."""
        self._start("step", run_id, serialized, about)

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **about: Any) -> None:
        """A tool calls a chat model."""
        self._start("model", run_id, serialized, about)

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: UUID, **about: Any) -> None:
        """A tool calls a language model."""
        self._start("model", run_id, serialized, about)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **about: Any) -> None:
        """A step calls a tool."""
        self._start("tool", run_id, serialized, about)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        """Ended well."""
        self._end(run_id)

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        """Ended well."""
        self._end(run_id)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """Ended well."""
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Ended with an error."""
        self._end(run_id, error)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Ended with an error."""
        self._end(run_id, error)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Ended with an error."""
        self._end(run_id, error)

    def _start(self, kind: str, run_id: UUID, serialized: Any, about: Mapping[str, Any]) -> None:
        name = about.get("name") or (serialized or {}).get("name") or kind
        parent = self._spans.get(about["parent_run_id"]) if about.get("parent_run_id") else None
        span = self._tracer.start_span(str(name), context=set_span_in_context(parent) if parent else None)
        self._spans[run_id] = span
        metadata = about.get("metadata") or {}
        known = {key: metadata[key] for key in _ROOT if key in metadata} if parent is None else {}
        self.note(run_id, {"kind": kind, **known, **({"tags": about["tags"]} if about.get("tags") else {})})

    def _end(self, run_id: UUID, error: BaseException | None = None) -> None:
        span = self._spans.pop(run_id, None)
        if span is None:
            return
        if error is not None:
            # An error's message may repeat the post or an address; its code and type cannot.
            code = re.match(r"[EW]\d{3}\b", str(error))
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__} {code[0] if code else ''}".strip()))
        span.end()


_ROOT = ("post", "fingerprint", "profile", "image_sha256", "image_width", "image_height")
