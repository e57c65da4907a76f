"""Measures a sample of a batch's input: posts one by one, stage by stage, then others through the batch's engine."""

import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from namepin.agent.api import Namepin
from namepin.agent.batch.local_engine import run_batch
from namepin.agent.batch.source import Source
from namepin.agent.batch.stages import stages_of
from namepin.agent.config.build import SERVER_THREADS, TOGETHER, batched_calls, cores_here, posts_per_group, runs_on
from namepin.agent.config.settings import Settings, ToolSettings
from namepin.agent.estimate.model import Estimate, Hardware, Pool, Stage, Work, bounds, estimate
from namepin.graphs.calls import Calls
from namepin.tools.errors import NamepinError
from namepin.tools.llm.usage import Usage, count_usage
from namepin.tools.media import Media
from namepin.tools.types import Frozen, Post

LOOKED_AT = 10_000
"""Number of rows from the top of the input that the sample is drawn from."""


@dataclass
class _Sum:
    calls: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0


class MeteredCalls:
    """`Calls` one at a time, so that the process's time during a call belongs to that tool."""

    def __init__(self, calls: Calls) -> None:
        self._calls, self._turn = calls, asyncio.Lock()
        self.sums: defaultdict[str, _Sum] = defaultdict(_Sum)

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Role -> fingerprint."""
        return self._calls.fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`."""
        async with self._turn:
            cpu, wall = time.process_time(), time.perf_counter()
            with count_usage() as spent:
                try:
                    return await self._calls.call(tool, request, media)
                finally:
                    self._add(tool, time.process_time() - cpu, time.perf_counter() - wall, spent)

    def _add(self, tool: str, cpu: float, wall: float, spent: Usage) -> None:
        total = self.sums[tool]
        total.calls += 1
        total.cpu_s += cpu
        total.wall_s += wall
        total.answers += spent.answers
        total.prompt_tokens += spent.prompt_tokens
        total.completion_tokens += spent.completion_tokens
        total.unmetered += spent.unmetered


def estimate_batch(
    settings: Settings,
    source: Source,
    posts: int,
    *,
    at_once: int = 16,
    together: int | None = None,
    limit: int | None = None,
    ray: bool = False,
) -> tuple[Estimate, Work]:
    """The time and cost of `posts` posts like those of `source` on `settings.estimate`; and the cost of one post.

    Earlier runs' answers in the disk caches are not used: the sample asks the models again.

    Args:
        settings: the profile.
        source: the input.
        posts: number of posts of the estimate.
        at_once: number of posts with pictures that the batch would have in progress.
        together: number of posts that would share tool calls; None for the batch's default.
        limit: number of rows of the input to draw from.
        ray: whether the machines are nodes of a cluster, with the processes of `settings.ray`.

    Raises:
        NamepinError: E104 when the input holds no posts, E203 when the machines cannot hold the processes, E21x and
            E30x when a required tool cannot start.
    """
    chosen = settings.estimate
    pools = pools_of(settings) if ray else ()
    load = os.getloadavg()[0] / cores_here() if hasattr(os, "getloadavg") else None
    sample = draw_posts(source, 2 * chosen.sample + 1, limit)
    size = posts_per_group(settings, together or TOGETHER)
    if size > 1 and not any(post.image for post in sample):
        # A small sample makes small groups, in which a post costs more than in the batch.
        sample = draw_posts(source, chosen.sample + 1 + max(chosen.sample, 2 * size), limit)
    half = max(1, min(chosen.sample, len(sample) // 2))
    first, in_batch, alone = sample[:1], sample[1 : len(sample) - half], sample[len(sample) - half :]
    here = Hardware(
        machines=1,
        cores=cores_here(),
        gpus=1,
        servers=chosen.servers,
        server_at_once=chosen.server_at_once,
        server_threads=SERVER_THREADS,
        posts_at_once=at_once,
    )
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        cold = _with_caches_in(settings, Path(folder, "caches"))
        pin = Namepin(cold, batched_calls(cold))
        work = measure(pin, first, alone, time.perf_counter() - began)
        correction = 1.0
        if in_batch:
            correction = rate_of_batch(pin, in_batch, at_once, together or TOGETHER, Path(folder)) / min(
                bounds(work, here).values()
            )
    there = here.model_copy(
        update={
            "machines": chosen.machines,
            "cores": chosen.cores or here.cores,
            "gpus": chosen.gpus,
            "posts_at_once": min(at_once, settings.ray.chunk) if ray else at_once,
        }
    )
    return estimate(work, there, chosen, posts, correction, pools), work.model_copy(update={"load": load})


def pools_of(settings: Settings) -> tuple[Pool, ...]:
    """The processes of `--engine ray`, stage by stage.

    Raises:
        NamepinError: E203 when `estimate.machines` lack cores or GPUs: such a run would wait forever.
    """
    chosen, pools = settings.estimate, list[Pool]()
    for number, stage in enumerate(stages_of(settings), 1):
        own = settings.ray.of(stage.kind)
        name = f"stage {number} ({stage.kind})"
        pools.append(Pool(name=name, roles=stage.roles, actors=own.actors, cpus=own.cpus, gpus=own.gpus))
    cores = settings.ray.reader_cpus + sum(pool.actors * pool.cpus for pool in pools)
    gpus = sum(pool.actors * pool.gpus for pool in pools)
    has_cores, has_gpus = chosen.machines * (chosen.cores or cores_here()), chosen.machines * chosen.gpus
    if cores > has_cores or gpus > has_gpus:
        what = f"the stages want {cores:g} cores and {gpus:g} GPUs of machines that have {has_cores} and {has_gpus}"
        mend = "lower ray.*.actors, or raise estimate.machines, estimate.cores or estimate.gpus"
        raise NamepinError("E203", what, where="estimate", mend=mend)
    return tuple(pools)


def draw_posts(source: Source, count: int, limit: int | None = None) -> list[Post]:
    """At most `count` posts, drawn with a fixed seed from the top of the input; other rows are skipped.

    Raises:
        NamepinError: E104 when there is no post.
    """
    rows = islice(source.rows(), min(limit or LOOKED_AT, LOOKED_AT))
    posts = [row.post for row in rows if row.post is not None]
    if not posts:
        raise NamepinError("E104", "the input holds no posts", where=source.name, mend="give one JSON object per line")
    return random.Random(0).sample(posts, min(count, len(posts)))


def measure(pin: Namepin, first: Sequence[Post], posts: Sequence[Post], loaded_s: float = 0.0) -> Work:
    """The average cost of `posts`, one after the other; the `first` posts come before and warm up the tools."""
    calls = MeteredCalls(pin.calls)
    metered = Namepin(pin.settings, calls)
    failed, walls, picture_s, graph_s, warm_s = 0, list[float](), 0.0, 0.0, 0.0

    async def work() -> None:
        nonlocal failed, picture_s, graph_s, warm_s
        for post in first:
            start = time.perf_counter()
            await _through(metered, post)
            warm_s += time.perf_counter() - start
        calls.sums.clear()
        for post in posts:
            start, cpu = time.perf_counter(), time.process_time()
            in_tools = sum(total.cpu_s for total in calls.sums.values())
            decoding, well = await _through(metered, post)
            in_tools = sum(total.cpu_s for total in calls.sums.values()) - in_tools
            walls.append(time.perf_counter() - start)
            picture_s += decoding
            graph_s += max(0.0, time.process_time() - cpu - in_tools - decoding)
            failed += not well

    asyncio.run(work())
    count, mean = len(posts), statistics.fmean(walls)
    margin = 1.96 * statistics.stdev(walls) / count**0.5 / mean if count > 1 else None
    return Work(
        posts=count,
        failed=failed,
        start_s=loaded_s + max(0.0, warm_s - len(first) * mean),
        picture_s=picture_s / count,
        graph_s=graph_s / count,
        stages={role: _stage(pin.settings.tools.get(role), total, count) for role, total in calls.sums.items()},
        wall_s=mean,
        margin=margin,
        unmetered=sum(total.unmetered for total in calls.sums.values()),
    )


def rate_of_batch(pin: Namepin, posts: Sequence[Post], at_once: int, together: int, folder: Path) -> float:
    """Posts per second of the batch's engine, which writes to `folder`."""
    source = folder / "sample.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for post in posts:
            image = str(Path(post.image).absolute()) if post.image else None
            file.write(json.dumps(post.model_dump(mode="json") | {"image": image}) + "\n")
    progress, _ = run_batch(pin, Source(str(source)), folder / "out", at_once=at_once, together=together)
    return len(posts) / progress.seconds


def _with_caches_in(settings: Settings, folder: Path) -> Settings:
    """The settings with the language models' cache in another folder and without the cache of whole posts."""
    tools = {
        role: tool.model_copy(update={"config": tool.config.model_copy(update={"cache_dir": folder})})
        if hasattr(tool.config, "cache_dir")
        else tool
        for role, tool in settings.tools.items()
    }
    batch = settings.batch.model_copy(update={"cache": False})
    return settings.model_copy(update={"tools": tools, "batch": batch})


async def _through(pin: Namepin, post: Post) -> tuple[float, bool]:
    """Run one post. Returns the core seconds before its graph, mostly for the picture, and whether it succeeded."""
    start = time.process_time()
    try:
        prepared = pin.ready(post)
        ready_s = time.process_time() - start
        return ready_s, (await pin.aextract(prepared)).status != "failed"
    except Exception:  # as in a batch, one post never ends the run
        return 0.0, False


def _stage(chosen: ToolSettings | None, total: _Sum, posts: int) -> Stage:
    return Stage(
        on=runs_on(chosen.config) if chosen else "cores",
        calls=total.calls / posts,
        cpu_s=total.cpu_s / posts,
        wall_s=total.wall_s / posts,
        answers=total.answers / posts,
        prompt_tokens=total.prompt_tokens / posts,
        completion_tokens=total.completion_tokens / posts,
    )
