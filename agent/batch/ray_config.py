"""How many processes each stage has on a cluster, and what share of a machine each takes."""

from typing import Annotated

from pydantic import Field

from tools.types import Frozen


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
