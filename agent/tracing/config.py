"""What a trace shows, and of how many posts."""

from typing import Annotated

from pydantic import Field

from tools.types import Frozen


class TracingSettings(Frozen):
    """`[tracing]` of a profile. LangSmith is on where LANGSMITH_TRACING says so; secrets are never sent to anybody."""

    redact: bool = False
    """Send no text: no post, caption, prompt, answer or error message, and of the post's id its sha256 only."""
    images: bool = False
    """Attach the picture; otherwise its sha256 and size stand for it."""
    sample: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the runs that are traced; None takes LANGSMITH_TRACING_SAMPLING_RATE, and otherwise all."""
    otel: bool = False
    """Export spans by OTLP over HTTP to where OTEL_EXPORTER_OTLP_ENDPOINT says."""
