"""The server's own settings, `[serve]` of a profile."""

from typing import Annotated

from pydantic import Field

from tools.types import Frozen


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
