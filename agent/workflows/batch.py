"""A batch on either engine, for `namepin batch`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from namepin.agent.config.settings import Settings

if TYPE_CHECKING:
    from namepin.agent.batch.source import Source
    from namepin.agent.batch.writing import Progress


def run(
    settings: Settings,
    source: "Source",
    out: Path,
    *,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    at_once: int = 16,
    together: int | None = None,
    limit: int | None = None,
    masks: bool = False,
    repair: bool = False,
    on_progress: "Callable[[Progress], None]" = lambda _: None,
) -> "tuple[Progress, bool]":
    """Process an input into a folder, or continue an earlier run there.

    Args:
        settings: the profile.
        source: the input.
        out: the output folder.
        engine: this process, or a Ray cluster.
        address: address of a running Ray cluster; None starts Ray here.
        at_once: number of posts with pictures processed at a time.
        together: largest number of posts that share tool calls; None for `namepin.agent.config.build.TOGETHER`.
        limit: number of input rows after which to stop.
        masks: the rows are predictions, which get masks; only the segmenter is built. Local engine only.
        repair: continue with damaged results.
        on_progress: called after each row.

    Returns:
        The counts of rows by outcome, and whether the run was stopped before its end.

    Raises:
        NamepinError: as `namepin.agent.batch.local_engine.run_batch` and `namepin.agent.batch.ray_engine.run_ray`.
    """
    from namepin.agent.config.build import TOGETHER, batched_calls

    together = together or TOGETHER
    if engine == "ray":
        from namepin.agent.batch.ray_engine import run_ray

        return run_ray(
            settings,
            source,
            out,
            address=address,
            at_once=at_once,
            together=together,
            limit=limit,
            repair=repair,
            on_progress=on_progress,
        )
    from namepin.agent.api import Namepin
    from namepin.agent.batch.local_engine import run_batch

    if masks:
        segmenter = {role: tool for role, tool in settings.tools.items() if role == "segmenter"}
        settings = settings.model_copy(update={"tools": segmenter})
    pin = Namepin(settings, batched_calls(settings))
    return run_batch(
        pin,
        source,
        out,
        at_once=at_once,
        together=together,
        limit=limit,
        masks=masks,
        repair=repair,
        on_progress=on_progress,
    )
