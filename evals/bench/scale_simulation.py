"""Simulates a run over a thousand million posts: shards pass through stages of workers that die and queues that fill.

`python -m namepin.evals.bench.scale_simulation` prints the tables of docs/scale.md. It is a discrete-event simulation
with one seed and the same output on any machine. Speeds are either computed from operations (`operations`) and an
assumed share of a GPU's peak, or measured on our cores; docs/scale.md names the source of each.
"""

import heapq
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

HOUR = 3600.0


@dataclass(frozen=True)
class Stage:
    """A pool of equal workers for one step.

    Attributes:
        name: name for the tables.
        workers: number of workers.
        seconds: seconds of one worker per post.
        cached: whether repeated posts cost nothing in this stage.
    """

    name: str
    workers: int
    seconds: float
    cached: bool = False


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        posts: number of posts.
        shard: number of posts per piece of work; a worker that dies loses one piece.
        stages: the stages in their order; every shard passes through all.
        buffer: largest number of shards that wait before a stage; the previous stage then stops.
        repeats: share of posts that repeat an earlier post, any of them with equal probability.
        lifetime_h: mean hours until a worker dies; None means never.
        back_s: seconds until another worker replaces it.
        zones: number of zones that the workers of each stage are spread over.
        outage_at_h: hour at which one zone fails; None means never.
        outage_h: duration of the outage in hours.
        spread: half-width of the uniform spread of a shard's time around its mean, as a share of it.
        seed: seed of all random numbers.
    """

    posts: int
    shard: int
    stages: Sequence[Stage]
    buffer: int = 64
    repeats: float = 0.0
    lifetime_h: float | None = None
    back_s: float = 300.0
    zones: int = 3
    outage_at_h: float | None = None
    outage_h: float = 2.0
    spread: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    Attributes:
        hours: hours until the last shard was finished.
        busy: stage -> share of its workers' time for work that was not lost.
        lost: stage -> share of the work that was lost with workers.
        deaths: number of workers that died, including those of the outage.
        finished: stage -> number of shards that passed through it, each exactly once.
        longest: stage -> largest number of shards that waited before it.
        hits: share of posts that a cached stage answered from its cache.
    """

    hours: float
    busy: Mapping[str, float]
    lost: Mapping[str, float]
    deaths: int
    finished: Mapping[str, int]
    longest: Mapping[str, int]
    hits: float


@dataclass(eq=False)
class _Worker:
    number: int
    stage: int
    zone: int
    epoch: int = 0
    """Incremented at each death; events of an earlier life are ignored."""
    shard: int | None = None
    began: float = 0.0
    spent: float = 0.0
    """Seconds of work on the shard that is not handed on yet."""
    blocked: bool = False
    down: int = 0
    """Number of reasons for its absence: its own death, its zone's outage."""


@dataclass
class _Pool:
    stage: Stage
    waiting: deque[int] = field(default_factory=deque)
    idle: list[_Worker] = field(default_factory=list)
    blocked: deque[tuple[_Worker, int]] = field(default_factory=deque)
    worked: float = 0.0
    wasted: float = 0.0
    finished: int = 0
    started: int = 0
    longest: int = 0


class Simulation:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.rng, self.now, self.deaths = plan, random.Random(plan.seed), 0.0, 0
        self.shards = -(-plan.posts // plan.shard)
        self.pools = [_Pool(stage) for stage in plan.stages]
        places = [(number, place) for number, stage in enumerate(plan.stages) for place in range(stage.workers)]
        self.workers = [_Worker(n, stage, place % plan.zones) for n, (stage, place) in enumerate(places)]
        self._events: list[tuple[float, int, str, int, int]] = []
        self._said = 0
        self._hits, self._asked = 0.0, 0.0

    def run(self) -> Outcome:
        """Run until every shard has passed the last stage."""
        for worker in self.workers:
            self.pools[worker.stage].idle.append(worker)
            self._mortal(worker)
        if self.plan.outage_at_h is not None:
            self._at(self.plan.outage_at_h * HOUR, "dark", 0, 0)
        self.pools[0].waiting.extend(range(self.shards))
        self._give(0)
        while self.pools[-1].finished < self.shards:
            self.now, _, what, number, epoch = heapq.heappop(self._events)
            getattr(self, f"_{what}")(number, epoch)
        return self._outcome()

    def _at(self, when: float, what: str, number: int, epoch: int) -> None:
        self._said += 1  # events of the same time happen in the order of their scheduling
        heapq.heappush(self._events, (when, self._said, what, number, epoch))

    def _mortal(self, worker: _Worker) -> None:
        if self.plan.lifetime_h is not None:
            lifetime = self.rng.expovariate(1 / (self.plan.lifetime_h * HOUR))
            self._at(self.now + lifetime, "death", worker.number, worker.epoch)

    def _give(self, stage: int) -> None:
        """Give idle workers shards, and let blocked workers hand on theirs where there is room."""
        pool = self.pools[stage]
        while pool.waiting and pool.idle:
            worker, shard = pool.idle.pop(), pool.waiting.popleft()
            worker.shard, worker.began = shard, self.now
            spread = self.rng.uniform(1 - self.plan.spread, 1 + self.plan.spread)
            seconds = pool.stage.seconds * self.plan.shard * spread * self._to_do(pool)
            self._at(self.now + seconds, "done", worker.number, worker.epoch)
            if stage:
                self._let_in(stage)

    def _let_in(self, stage: int) -> None:
        before, pool = self.pools[stage - 1], self.pools[stage]
        while before.blocked and len(pool.waiting) < self.plan.buffer:
            worker, epoch = before.blocked.popleft()
            if worker.epoch == epoch and worker.shard is not None:
                worker.blocked = False
                self._pass_on(worker)

    def _to_do(self, pool: _Pool) -> float:
        """The share of a shard's posts that need work; repeats of finished posts do not."""
        pool.started += 1
        if not pool.stage.cached:
            return 1.0
        known = self.plan.repeats * pool.finished / pool.started
        self._hits, self._asked = self._hits + known, self._asked + 1
        return 1.0 - known

    def _done(self, number: int, epoch: int) -> None:
        worker = self.workers[number]
        if worker.epoch != epoch:
            return
        pool = self.pools[worker.stage]
        worker.spent = self.now - worker.began
        pool.worked += worker.spent
        following = worker.stage + 1
        if following < len(self.pools) and len(self.pools[following].waiting) >= self.plan.buffer:
            worker.blocked = True
            pool.blocked.append((worker, worker.epoch))
            return
        self._pass_on(worker)

    def _pass_on(self, worker: _Worker) -> None:
        pool, following = self.pools[worker.stage], worker.stage + 1
        assert worker.shard is not None
        pool.finished += 1
        if following < len(self.pools):
            self.pools[following].waiting.append(worker.shard)
            self.pools[following].longest = max(self.pools[following].longest, len(self.pools[following].waiting))
            self._give(following)
        worker.shard = None
        pool.idle.append(worker)
        self._give(worker.stage)

    def _death(self, number: int, epoch: int) -> None:
        worker = self.workers[number]
        if worker.epoch == epoch:
            self._fall(worker)
            self._at(self.now + self.plan.back_s, "back", number, 0)

    def _dark(self, zone: int, _: int) -> None:
        for worker in self.workers:
            if worker.zone == zone:
                self._fall(worker)
                self._at(self.now + self.plan.outage_h * HOUR, "back", worker.number, 0)

    def _fall(self, worker: _Worker) -> None:
        """Handle a worker's death; another worker repeats the shard that was not handed on."""
        self.deaths += not worker.down
        worker.epoch, worker.down = worker.epoch + 1, worker.down + 1
        pool = self.pools[worker.stage]
        if worker in pool.idle:
            pool.idle.remove(worker)
        if worker.shard is None:
            return
        if worker.blocked:  # the work was done and counted, and is lost now
            worker.blocked = False
            pool.worked, pool.wasted = pool.worked - worker.spent, pool.wasted + worker.spent
        else:
            pool.wasted += self.now - worker.began
        pool.started -= 1
        pool.waiting.appendleft(worker.shard)
        worker.shard = None
        self._give(worker.stage)

    def _back(self, number: int, _: int) -> None:
        worker = self.workers[number]
        worker.down -= 1
        if not worker.down:
            self.pools[worker.stage].idle.append(worker)
            self._mortal(worker)
            self._give(worker.stage)

    def _outcome(self) -> Outcome:
        pools = {pool.stage.name: pool for pool in self.pools}
        return Outcome(
            hours=self.now / HOUR,
            busy={name: pool.worked / (self.now * pool.stage.workers) for name, pool in pools.items()},
            lost={
                name: pool.wasted / (pool.worked + pool.wasted) if pool.worked else 0.0 for name, pool in pools.items()
            },
            deaths=self.deaths,
            finished={name: pool.finished for name, pool in pools.items()},
            longest={name: pool.longest for name, pool in pools.items()},
            hits=self._hits / self._asked if self._asked else 0.0,
        )


@dataclass(frozen=True)
class Assumptions:
    """Assumptions of the plan of docs/scale.md; replace them by what `--estimate` finds on the real machines."""

    peak: float = 989e12
    """Operations per second of one GPU in bfloat16, dense: NVIDIA's figure for the H100 SXM."""
    bandwidth: float = 3.35e12
    """Bytes per second of its memory, from the same data sheet."""
    share: float = 0.35
    """Share of both that the nets reach."""
    mentions: float = 1.4
    """Mentions per post: GMNER dev, right spans of the starter tagger (2,084 in 1,500 posts, docs/ablations.md)."""
    gated: float = 0.65
    """Share of the mentions above gamma = 0.2: the same posts with knowledge, (2,124 - 747) / 2,124."""
    seen: float = 0.6
    """Share of posts with a name that is in the picture; only these are traced and segmented."""
    prompt: int = 400
    """Tokens of a question for knowledge."""
    answer: int = 100
    """Tokens of its answer."""
    rerank_prompt: int = 711
    """Tokens of a reranking prompt with its picture (docs/gem.md)."""
    answering: int = 64
    """Number of answers that a model server generates at a time."""
    core_s: float = 0.02
    """Seconds of one core to read a post, decode its picture and run the graph (docs/batch.md, rounded up)."""
    repeats: float = 0.2
    """Share of posts with the text of an earlier post."""


def operations(width: int, layers: int, tokens: int, *, across: int | None = None) -> float:
    """Operations of one transformer pass: per layer 24 n d^2 for matrices, 4 n m d for attention to m tokens."""
    seen = tokens if across is None else across
    return layers * (24.0 * tokens * width**2 + 4.0 * tokens * seen * width)


def seconds_a_post(given: Assumptions) -> dict[str, float]:
    """GPU seconds of an average post, by stage, and core seconds for `prepare` and `write`."""
    speed = given.peak * given.share
    tagger = operations(1024, 24, 300)  # RoBERTa-large, text and knowledge
    blip = operations(1024, 24, 577) + given.mentions * operations(
        768, 12, 35, across=577
    )  # BLIP ITM-large, once per post
    trace = given.mentions * 3 * operations(768, 12, 35, across=577)  # forwards and backwards through the text side
    sam = operations(1280, 28, 4096, across=196) + operations(1280, 4, 4096)  # ViT-H: 28 blocks see 14 x 14 windows
    eight_billion, seven_billion = 2 * 8.2e9, 2 * 7.1e9
    step = eight_billion / (given.bandwidth * given.share) / given.answering  # weights of 2 bytes, read once per token
    return {
        "prepare": given.core_s,
        "knowledge": given.prompt * eight_billion / speed + given.answer * step,
        "tag": tagger / speed,
        "rerank": given.mentions * given.gated * given.rerank_prompt * seven_billion / speed,
        "look": (blip + given.seen * (trace + 2 * sam)) / speed,  # assumes that SEEM costs as much as SAM
        "write": given.core_s / 10,
    }


def plan_workers(
    given: Assumptions, *, posts: int = 10**9, gpus: int = 512, cores: int = 160, shard: int = 20_000
) -> Plan:
    """Workers in proportion to each stage's work, rounded up, so that all stages end at about the same time."""
    seconds = seconds_a_post(given)
    on_cores = ("prepare", "write")
    work = {name: s * (1 - given.repeats if name == "knowledge" else 1) for name, s in seconds.items()}
    total = {True: sum(work[name] for name in on_cores), False: sum(s for n, s in work.items() if n not in on_cores)}
    stages = [
        Stage(
            name,
            ceil((cores if name in on_cores else gpus) * work[name] / total[name in on_cores]),
            seconds[name],
            cached=name == "knowledge",
        )
        for name in seconds
    ]
    return Plan(posts, shard, stages, repeats=given.repeats)


def tables(given: Assumptions | None = None) -> str:
    """The tables of docs/scale.md."""
    given = given or Assumptions()
    plan = plan_workers(given)
    quiet = Simulation(plan).run()
    lines = ["| stage | workers | ms per post | busy |", "| --- | --- | --- | --- |"]
    for stage in plan.stages:
        lines.append(f"| {stage.name} | {stage.workers} | {1000 * stage.seconds:.2f} | {quiet.busy[stage.name]:.0%} |")
    lines += ["", f"{quiet.hours:.1f} hours; {quiet.hits:.1%} of the posts found their knowledge in the cache.", ""]
    spot = replace(plan, lifetime_h=24.0)
    cases = {
        "nothing fails": plan,
        "each worker dies once in 24 hours (spot machines)": spot,
        "the same, shards of 200,000 posts": replace(spot, shard=200_000),
        "a zone of three goes dark for two hours": replace(plan, outage_at_h=5.0),
        "both": replace(spot, outage_at_h=5.0),
        "both, and one zone only": replace(spot, outage_at_h=5.0, zones=1),
    }
    lines += ["| what fails | hours | workers lost | work done again, GPUs |", "| --- | --- | --- | --- |"]
    for name, case in cases.items():
        run = Simulation(case).run()
        lines.append(f"| {name} | {run.hours:.1f} | {run.deaths:,} | {_again(case, run):.2%} |")
    lines += [
        "",
        "| language models | questions | tokens in | tokens out | GPU hours |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, gate, repeats in (
        ("neither gate nor cache", 1.0, 0.0),
        ("the gate", given.gated, 0.0),
        ("the cache", 1.0, quiet.hits),
        ("both", given.gated, quiet.hits),
    ):
        lines.append(_models(replace(given, gated=gate), name, plan.posts, repeats))
    return "\n".join(lines)


def _again(plan: Plan, run: Outcome) -> float:
    """The share of the GPU stages' work that was lost, weighted by their workers."""
    gpu = [stage for stage in plan.stages if stage.name not in ("prepare", "write")]
    return sum(stage.workers * run.lost[stage.name] for stage in gpu) / sum(stage.workers for stage in gpu)


def _models(given: Assumptions, name: str, posts: int, hits: float) -> str:
    asked, reranked = posts * (1 - hits), posts * given.mentions * given.gated
    inwards = asked * given.prompt + reranked * given.rerank_prompt
    seconds = seconds_a_post(given)
    hours = (asked * seconds["knowledge"] + posts * seconds["rerank"]) / HOUR
    return (
        f"| {name} | {(asked + reranked) / 1e9:.2f}e9 | {inwards / 1e12:.2f}e12 | "
        f"{asked * given.answer / 1e12:.3f}e12 | {hours:,.0f} |"
    )


if __name__ == "__main__":
    print(tables())
