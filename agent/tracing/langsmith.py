"""LangSmith: a client that sends no secrets, never delays a run, and logs send errors at a limited rate."""

import atexit
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

# LangSmith's sender would otherwise keep a finished process alive while the address hangs. `flush` below waits for it
# with a bound.
os.environ.setdefault("LANGSMITH_USE_DAEMON", "true")

from langchain_core.tracers.langchain import LangChainTracer
from langsmith import Client
from urllib3.util import Retry

from namepin.agent.config.sections import TracingSettings
from namepin.agent.tracing.log_throttle import throttle
from namepin.tools.redaction import Scrubber

CONNECT_MS, READ_MS = 2000, 5000
AT_EXIT_S = 3.0
"""Longest time that a finished process waits for unsent traces."""


class TraceClient(Client):
    """LangSmith's client, with pictures for runs that have not started.

    Attributes:
        pictures: run id -> JPEG, attached when that run is posted.
    """

    def __init__(self, settings: TracingSettings) -> None:
        super().__init__(
            timeout_ms=(CONNECT_MS, READ_MS),
            retry_config=Retry(total=1, backoff_factor=0.2, allowed_methods=None),
            anonymizer=_anonymizer(settings.redact),
            hide_inputs=True if settings.redact else None,
            hide_outputs=True if settings.redact else None,
            tracing_sampling_rate=settings.sample,
        )
        self.pictures: dict[UUID, bytes] = {}

    def create_run(self, *args: Any, **kwargs: Any) -> None:
        """See `Client.create_run`."""
        run = kwargs.get("id")
        if run and (picture := self.pictures.pop(run, None)):
            kwargs["attachments"] = {**(kwargs.get("attachments") or {}), "picture": ("image/jpeg", picture)}
        super().create_run(*args, **kwargs)


class PostTracer(LangChainTracer):
    """LangChain's tracer whose running runs accept metadata."""

    def note(self, run_id: UUID, metadata: Mapping[str, Any]) -> None:
        """Add to a run's metadata."""
        if run := self.run_map.get(str(run_id)):
            run.add_metadata(dict(metadata))


@cache
def client_of(settings: TracingSettings) -> TraceClient:
    """The process's client for these settings."""
    throttle("langsmith.client", "langsmith._internal._background_thread", "urllib3.connectionpool")
    client = TraceClient(settings)
    atexit.register(client.flush, AT_EXIT_S)
    return client


def _anonymizer(redact: bool) -> Any:
    """The redaction of all inputs, outputs, errors and metadata before they are queued."""
    home = Path(__file__).resolve().parents[2]
    folders = {str(Path.home()), str(Path.cwd()), sys.prefix, sys.base_prefix, str(home)}
    scrub = Scrubber.of_this_process(folders)

    def scrubbed(value: dict[str, Any]) -> dict[str, Any]:
        # An error's message may repeat the post; its type cannot.
        if redact and set(value) == {"error"} and isinstance(value["error"], str):
            kind = re.match(r"\w+", value["error"])
            return {"error": kind[0] if kind else "error"}
        return dict(scrub(value))

    return scrubbed
