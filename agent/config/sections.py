"""The sections of a profile that no tool owns: batch, chat, estimate, ray, serve and tracing."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from namepin.tools.llm.box_frames import Frame
from namepin.tools.llm.config import ChatConfig
from namepin.tools.types import Frozen


class BatchSettings(Frozen):
    """`[batch]` of a profile: `--set batch.cache=true`. These settings do not change results.

    Attributes:
        cache: whether results of whole posts are cached on this machine's disk and reused for an equal post in a later
            run. Off by default, since the cache file holds posts; without it, posts are only in input and output.
        cache_mb: largest size of that file; the least recently used results are evicted first.
        cache_dir: its folder; None for `posts` within NAMEPIN_CACHE_DIR, else within the platform's cache folder.
    """

    cache: bool = False
    cache_mb: Annotated[int, Field(gt=0)] = 1024
    cache_dir: Path | None = None


class ChatSettings(ChatConfig):
    """`[chat]` of a profile: `--set chat.model=... --set chat.base_url=...`. Without a model, rules lead."""

    max_tokens: Annotated[int, Field(gt=0)] = 1024
    model_calls: Annotated[int, Field(ge=1, le=50)] = 8
    """Largest number of model calls per message."""
    tool_calls: Annotated[int, Field(ge=1, le=50)] = 6
    """Largest number of tool calls per message."""


class LlmSettings(Frozen):
    """What all roles on a server share: a role that lacks one of these settings takes it from here.

    So one model is named once: `--set llm.model=NAME --set llm.base_url=URL`.
    """

    model: Annotated[str, Field(min_length=1)] | None = None
    base_url: str | None = None
    """None is OpenAI's server; the key comes from OPENAI_API_KEY."""
    servers: tuple[str, ...] | None = None
    frame: Frame | None = None
    """The unit in which the model writes boxes."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    retries: Annotated[int, Field(ge=0, le=10)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: int | None = None
    concurrency: Annotated[int, Field(ge=1, le=256)] | None = None
    cache: bool | None = None
    cache_dir: Path | None = None


Price = Annotated[float, Field(ge=0)]


class EstimateSettings(Frozen):
    """Hardware and prices for `namepin batch --estimate`. These settings do not change results."""

    sample: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Number of posts measured one by one; the same number goes through the batch's engine."""
    machines: Annotated[int, Field(ge=1)] = 1
    """Number of machines as fast as this one, each with a batch of its share of the posts."""
    cores: Annotated[int, Field(ge=1)] | None = None
    """Cores per machine; None for the number of cores of this machine."""
    gpus: Annotated[int, Field(ge=1)] = 1
    """GPUs per machine, like this machine's GPU."""
    servers: Annotated[int, Field(ge=1)] = 1
    """Number of model servers like the sample's server."""
    server_at_once: Annotated[int, Field(ge=1)] = 8
    """Number of requests that one server processes at a time without slowing each one down."""
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
        actors: number of processes.
        cpus: a node's CPUs per process.
        gpus: a node's GPUs per process; with 0.25, four processes share one GPU.
    """

    actors: Annotated[int, Field(ge=1)] = 1
    cpus: Annotated[float, Field(ge=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0


class RaySettings(Frozen):
    """`[ray]` of a profile, for `--engine ray`: `--set ray.vision.actors=4 --set ray.vision.gpus=0.5`.

    Attributes:
        chunk: least number of posts per task; a task has whole groups of posts (`--together`).
        reader_cpus: CPUs of the task that reads the input.
        text: name recognition on CPUs, or on a GPU with `gpus`.
        vision: tools that process pixels.
        llm: tools that call a model's server; they wait and need few resources.
    """

    chunk: Annotated[int, Field(ge=1, le=4096)] = 16
    reader_cpus: Annotated[float, Field(gt=0)] = 0.25
    text: PoolSettings = PoolSettings()
    vision: PoolSettings = PoolSettings()
    llm: PoolSettings = PoolSettings(cpus=0.25)

    def of(self, kind: str) -> PoolSettings:
        """The process pool of a kind of stage."""
        return {"text": self.text, "vision": self.vision, "llm": self.llm}[kind]


class ServeSettings(Frozen):
    """Bounds of `namepin serve`. They do not change results."""

    profiles: tuple[str, ...] = ()
    """Profiles that clients may choose, besides the server's own."""
    at_once: Annotated[int, Field(ge=1, le=256)] = 4
    """Posts per profile that compute at a time; posts that wait for a language model's server do not count."""
    waiting: Annotated[int, Field(ge=0, le=10_000)] = 32
    """Posts per profile that may wait. Further posts get 429."""
    asking: Annotated[int, Field(ge=1, le=1024)] = 32
    """Posts per profile that may wait for language models. Further posts that need one get 429."""
    per_minute: Annotated[int, Field(ge=1)] = 600
    """Largest number of requests per token."""
    max_body_mb: Annotated[int, Field(ge=1, le=1024)] = 48
    max_bodies_mb: Annotated[int, Field(ge=1)] = 256
    """Largest total size of all requests in progress. Further requests get 429."""
    max_job_posts: Annotated[int, Field(ge=1)] = 10_000
    max_jobs: Annotated[int, Field(ge=1)] = 20
    """Largest number of stored jobs per token."""
    max_reviews: Annotated[int, Field(ge=1)] = 100
    """Largest number of stored reviews per token."""
    urls: bool = False
    """Whether a request may name its picture by an https address."""
    hosts: tuple[str, ...] = ()
    """Host names of this server, besides the address that it listens on."""


class TracingSettings(Frozen):
    """`[tracing]` of a profile. LANGSMITH_TRACING switches LangSmith on. Secrets are never sent."""

    redact: bool = False
    """Send no text: no post, caption, prompt, answer or error message. The post's id is sent as its sha256."""
    images: bool = False
    """Attach the picture; otherwise send its sha256 and size."""
    sample: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the runs that are traced; None for LANGSMITH_TRACING_SAMPLING_RATE or, without it, all."""
    otel: bool = False
    """Export spans by OTLP over HTTP to OTEL_EXPORTER_OTLP_ENDPOINT."""
