"""The sections of a profile that no tool owns: batch, chat, estimate, ray, serve and tracing."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from namepin.tools.llm.config import ChatConfig
from namepin.tools.types import Frozen


class BatchSettings(Frozen):
    """`[batch]` of a profile: `--set batch.cache=true`. Nothing here changes what a post's result is.

    Attributes:
        cache: whether results of whole posts are kept on this machine's disk, and used again where an equal post comes
            in a later run. Off by default: the file then holds posts, which else stay in input and output alone.
        cache_mb: bound of that file; the results unused longest go first.
        cache_dir: its folder; None for `posts` within NAMEPIN_CACHE_DIR, else within the platform's cache folder.
    """

    cache: bool = False
    cache_mb: Annotated[int, Field(gt=0)] = 1024
    cache_dir: Path | None = None


class ChatSettings(ChatConfig):
    """`[chat]` of a profile: `--set chat.model=... --set chat.base_url=...`. Without a model, rules lead."""

    max_tokens: Annotated[int, Field(gt=0)] = 1024
    model_calls: Annotated[int, Field(ge=1, le=50)] = 8
    """Model calls a message may cost."""
    tool_calls: Annotated[int, Field(ge=1, le=50)] = 6
    """Tool calls a message may cost."""


Price = Annotated[float, Field(ge=0)]


class EstimateSettings(Frozen):
    """What `namepin batch --estimate` reckons with; nothing here changes what a post's result is."""

    sample: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Posts that are measured one by one; as many more go through the batch's engine."""
    machines: Annotated[int, Field(ge=1)] = 1
    """Machines as fast as this one, each with a batch of its own part of the posts."""
    cores: Annotated[int, Field(ge=1)] | None = None
    """Of each machine; None: as many as here."""
    gpus: Annotated[int, Field(ge=1)] = 1
    """Of each machine, like the one here."""
    servers: Annotated[int, Field(ge=1)] = 1
    """Model servers, like the one that the sample asks."""
    server_at_once: Annotated[int, Field(ge=1)] = 8
    """Requests that one server works on at a time without answering each any later."""
    machine_hour: Price = 0.0
    """Price of a machine's hour."""
    server_hour: Price = 0.0
    """Price of a model server's hour."""
    million_prompt_tokens: Price = 0.0
    million_completion_tokens: Price = 0.0
    currency: str = "USD"


class PoolSettings(Frozen):
    """The processes of a stage. Each loads the stage's tools; `cpus` and `gpus` may be fractions, which share one.

    Attributes:
        actors: processes.
        cpus: of a node's CPUs, for each.
        gpus: of a node's GPUs, for each: with 0.25, four processes share one.
    """

    actors: Annotated[int, Field(ge=1)] = 1
    cpus: Annotated[float, Field(ge=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0


class RaySettings(Frozen):
    """`[ray]` of a profile, for `--engine ray`: `--set ray.vision.actors=4 --set ray.vision.gpus=0.5`.

    Attributes:
        chunk: posts that travel together.
        reader_cpus: of the task that reads the input.
        text: recognition on CPUs, or on a GPU with `gpus`.
        vision: whatever looks at pixels here.
        llm: whatever asks a model's server: it waits, and needs little.
    """

    chunk: Annotated[int, Field(ge=1, le=4096)] = 16
    reader_cpus: Annotated[float, Field(gt=0)] = 0.25
    text: PoolSettings = PoolSettings()
    vision: PoolSettings = PoolSettings()
    llm: PoolSettings = PoolSettings(cpus=0.25)

    def of(self, kind: str) -> PoolSettings:
        """The pool of a kind of stage."""
        return {"text": self.text, "vision": self.vision, "llm": self.llm}[kind]


class ServeSettings(Frozen):
    """Bounds of `namepin serve`; none of them changes what a post's result is."""

    profiles: tuple[str, ...] = ()
    """Profiles that may be asked for, beside the one that serves."""
    at_once: Annotated[int, Field(ge=1, le=256)] = 4
    """Posts of a profile that compute at a time; one that waits for a language model's server does not count."""
    waiting: Annotated[int, Field(ge=0, le=10_000)] = 32
    """Posts of a profile that may wait; the next one is answered 429."""
    asking: Annotated[int, Field(ge=1, le=1024)] = 32
    """Posts of a profile that wait for language models; the next one that has to ask is answered 429."""
    per_minute: Annotated[int, Field(ge=1)] = 600
    """Requests that one token may make."""
    max_body_mb: Annotated[int, Field(ge=1, le=1024)] = 48
    max_bodies_mb: Annotated[int, Field(ge=1)] = 256
    """Of all requests under way together; the next one is answered 429."""
    max_job_posts: Annotated[int, Field(ge=1)] = 10_000
    max_jobs: Annotated[int, Field(ge=1)] = 20
    """Jobs that one token may keep."""
    max_reviews: Annotated[int, Field(ge=1)] = 100
    """Reviews that one token may keep."""
    urls: bool = False
    """Whether a request may name its picture by an https address."""
    hosts: tuple[str, ...] = ()
    """Names under which this server is reached, beside the address it listens on."""


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
