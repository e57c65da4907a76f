"""The tracers of a run, and the run's tags and metadata."""

import hashlib
import io
import os
from collections.abc import Sequence
from typing import Any

from langchain_core.runnables.config import RunnableConfig, var_child_runnable_config
from PIL import Image

from namepin.agent.config.sections import TracingSettings
from namepin.tools.errors import NamepinError, install_command
from namepin.tools.types import ImageRef


def is_traced(settings: TracingSettings) -> bool:
    """Whether a run that begins now is traced."""
    return settings.otel or _langsmith() or _within_ours()


def run_config(
    settings: TracingSettings,
    *,
    profile: str,
    post: str | None = None,
    image: ImageRef | None = None,
    picture: Image.Image | None = None,
    tags: Sequence[str] = (),
) -> RunnableConfig:
    """LangGraph's configuration of a run: tags, metadata and, unless the run is part of a traced run, the tracers.

    Args:
        settings: the permitted content of traces.
        profile: its name becomes a tag.
        post: the post's id.
        image: the picture by content.
        picture: its pixels, attached if `settings.images` allows it.
        tags: further tags, such as the data set's.

    Raises:
        NamepinError: E323 when OpenTelemetry is switched on but not installed.
    """
    metadata: dict[str, Any] = {"profile": profile}
    if post is not None:
        metadata["post"] = hashlib.sha256(post.encode()).hexdigest() if settings.redact else post
    if image is not None:
        metadata |= {"image_sha256": image.sha256, "image_width": image.width, "image_height": image.height}
    config = RunnableConfig(tags=[f"profile:{profile}", *tags], metadata=metadata)
    if _within_ours() or _parent():
        return config
    handlers: list[Any] = []
    if _langsmith():
        from langsmith import uuid7

        from namepin.agent.tracing.langsmith import PostTracer, client_of

        client = client_of(settings)
        handlers.append(PostTracer(client=client))
        if settings.images and picture is not None:
            config["run_id"] = run_id = uuid7()
            client.pictures[run_id] = _jpeg(picture)
    if settings.otel:
        try:
            from namepin.agent.tracing.otel import SpanHandler
        except ModuleNotFoundError as error:
            mend = f"{install_command('namepin[otel]')}, or switch `tracing.otel` off"
            raise NamepinError("E323", f"OpenTelemetry needs the package {error.name!r}", mend=mend) from error
        handlers.append(SpanHandler(settings))
    return RunnableConfig(**config, callbacks=handlers)


def flush(settings: TracingSettings, timeout_s: float) -> None:
    """Wait until the traces are sent, at most for the timeout."""
    if _langsmith():
        from namepin.agent.tracing.langsmith import client_of

        client_of(settings).flush(timeout_s)
    if settings.otel:
        from namepin.agent.tracing.otel import provider_of

        provider_of(settings.sample).flush_within(timeout_s)


def _langsmith() -> bool:
    if not any(os.environ.get(f"LANG{end}") for end in ("SMITH_TRACING", "SMITH_TRACING_V2", "CHAIN_TRACING_V2")):
        return False
    from langsmith.utils import tracing_is_enabled

    return tracing_is_enabled() is True


def _parent() -> Any:
    """LangSmith's parent run: the run of an evaluation, which has its own client."""
    if not _langsmith():
        return None
    from langsmith import get_current_run_tree

    return get_current_run_tree()


def _within_ours() -> bool:
    """Whether a parent run, such as a chat, is already traced and passes its tracers on."""
    callbacks: Any = (var_child_runnable_config.get() or {}).get("callbacks")
    handlers = callbacks if isinstance(callbacks, list) else getattr(callbacks, "handlers", None) or []
    return any(hasattr(handler, "note") for handler in handlers)


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
