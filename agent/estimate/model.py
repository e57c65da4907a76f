"""Computes the time and cost of N posts from the cost of one post, limited by the scarcest resource.

A batch has several posts in progress, so it is as fast as its scarcest resource. This is one of: cores, the thread that
runs the graphs, GPUs, the model servers, the threads that wait for servers, or the limit of posts in progress.
"""

from collections.abc import Mapping, Sequence

from namepin.agent.config.build import On
from namepin.agent.config.sections import EstimateSettings
from namepin.tools.types import Frozen


class Stage(Frozen):
    """The cost of one tool for an average post.

    Attributes:
        on: the device that it computes on; a tool that calls a server waits for it.
        calls: number of requests to the tool.
        cpu_s: seconds of this machine's cores.
        wall_s: seconds until the answer, with no other post in progress.
        answers: number of a model server's answers, without cached answers.
        prompt_tokens: tokens of the prompts.
        completion_tokens: tokens of the answers.
    """

    on: On
    calls: float
    cpu_s: float
    wall_s: float
    answers: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0


class Work(Frozen):
    """The cost of an average post and of a run's start, measured over a sample.

    Attributes:
        posts: the sample's size.
        failed: number of failed posts in the sample.
        start_s: seconds before the first post, plus the extra seconds of the first post.
        picture_s: core seconds to decode the picture.
        graph_s: core seconds outside the tools.
        stages: role -> its tool's cost.
        wall_s: seconds of a post without others in progress.
        margin: half of the 95% interval of `wall_s`, as a share of it; None for a single post.
        unmetered: number of server answers without token counts.
        load: load average per core before the sample, caused by other programs; None if unknown.
    """

    posts: int
    failed: int
    start_s: float
    picture_s: float
    graph_s: float
    stages: Mapping[str, Stage]
    wall_s: float
    margin: float | None = None
    unmetered: int = 0
    load: float | None = None


class Hardware(Frozen):
    """The hardware for the posts."""

    machines: int
    cores: int
    gpus: int
    servers: int
    server_at_once: int
    server_threads: int
    posts_at_once: int


class Pool(Frozen):
    """The processes of a stage under Ray, each with tools of its own.

    Attributes:
        name: name for people.
        roles: roles of the tools in a process.
        actors: number of processes.
        cpus: a machine's CPUs per process.
        gpus: a machine's GPUs per process.
    """

    name: str
    roles: tuple[str, ...]
    actors: int
    cpus: float
    gpus: float


class Estimate(Frozen):
    """The time and cost of N posts.

    Attributes:
        posts: N.
        bounds: resource -> posts per second that it allows.
        bound_by: the scarcest resource.
        correction: posts per second of a real batch here, divided by the bound of the scarcest resource here.
        seconds: seconds for all posts, including the start.
        machine_money: cost of machines and servers, by the hour.
        token_money: cost of tokens.
    """

    posts: int
    bounds: Mapping[str, float]
    bound_by: str
    correction: float
    posts_per_s: float
    seconds: float
    prompt_tokens: float
    completion_tokens: float
    machine_money: float
    token_money: float
    currency: str

    @property
    def money(self) -> float:
        """All of it."""
        return self.machine_money + self.token_money


def bounds(work: Work, hardware: Hardware) -> dict[str, float]:
    """Resource -> posts per second that it allows; resources that a post does not need are absent."""
    stages = work.stages.values()
    on_servers = [stage.wall_s for stage in stages if stage.on == "server"]
    machines, servers = hardware.machines, hardware.servers * hardware.server_at_once
    needs = {
        "cores": (machines * hardware.cores, work.picture_s + work.graph_s + sum(stage.cpu_s for stage in stages)),
        "graph": (machines, work.graph_s),
        "gpus": (machines * hardware.gpus, sum(stage.wall_s for stage in stages if stage.on == "gpu")),
        "servers": (servers, sum(on_servers)),
        "server threads": (machines * hardware.server_threads, max(on_servers, default=0.0)),
        "posts at once": (machines * hardware.posts_at_once, work.wall_s),
    }
    return {name: have / need for name, (have, need) in needs.items() if need > 0}


def bounds_of_pools(work: Work, hardware: Hardware, pools: Sequence[Pool]) -> dict[str, float]:
    """As `bounds`, for stages in separate processes. Each process decodes a post's picture and runs the graph.

    A process uses at least one core if the machines have it, even if Ray reserves a fraction of a core.
    """
    needs: dict[str, tuple[float, float]] = {}
    all_cores, all_gpus, all_servers = 0.0, 0.0, 0.0
    for pool in pools:
        stages = [work.stages[role] for role in pool.roles if role in work.stages]
        cores = work.picture_s + work.graph_s + sum(stage.cpu_s for stage in stages)
        gpus = sum(stage.wall_s for stage in stages if stage.on == "gpu")
        on_servers = [stage.wall_s for stage in stages if stage.on == "server"]
        alone = work.picture_s + work.graph_s + sum(stage.wall_s for stage in stages)
        needs |= {
            f"cores of {pool.name}": (pool.actors * max(pool.cpus, 1.0), cores),
            f"graph of {pool.name}": (pool.actors, work.graph_s),
            f"gpus of {pool.name}": (pool.actors * pool.gpus, gpus),
            f"server threads of {pool.name}": (pool.actors * hardware.server_threads, max(on_servers, default=0.0)),
            f"posts at once of {pool.name}": (pool.actors * hardware.posts_at_once, alone),
        }
        all_cores, all_gpus, all_servers = all_cores + cores, all_gpus + gpus, all_servers + sum(on_servers)
    needs |= {
        "cores": (hardware.machines * hardware.cores, all_cores),
        "gpus": (hardware.machines * hardware.gpus, all_gpus),
        "servers": (hardware.servers * hardware.server_at_once, all_servers),
    }
    return {name: have / need for name, (have, need) in needs.items() if need > 0}


def estimate(
    work: Work,
    hardware: Hardware,
    prices: EstimateSettings,
    posts: int,
    correction: float = 1.0,
    pools: Sequence[Pool] = (),
) -> Estimate:
    """The time and cost of `posts` on `hardware`; with `pools`, under Ray."""
    allowed = bounds_of_pools(work, hardware, pools) if pools else bounds(work, hardware)
    bound_by = min(allowed, key=lambda name: allowed[name])
    rate = allowed[bound_by] * correction
    seconds = work.start_s + posts / rate
    prompt = posts * sum(stage.prompt_tokens for stage in work.stages.values())
    completion = posts * sum(stage.completion_tokens for stage in work.stages.values())
    servers = hardware.servers if "servers" in allowed else 0
    by_hour = hardware.machines * prices.machine_hour + servers * prices.server_hour
    by_token = prompt * prices.million_prompt_tokens + completion * prices.million_completion_tokens
    return Estimate(
        posts=posts,
        bounds=allowed,
        bound_by=bound_by,
        correction=correction,
        posts_per_s=rate,
        seconds=seconds,
        prompt_tokens=prompt,
        completion_tokens=completion,
        machine_money=seconds / 3600 * by_hour,
        token_money=by_token / 1e6,
        currency=prices.currency,
    )
