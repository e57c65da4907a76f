"""The hardware and the prices of an estimate, `[estimate]` of a profile."""

from typing import Annotated

from pydantic import Field

from tools.types import Frozen

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
