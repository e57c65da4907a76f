"""The Ray engine: the stages of `namepin.agent.batch.stages` as actor pools of Ray Data, on one machine or a cluster.

One task streams the input and cuts it into chunks of whole groups of posts. Each stage maps chunks. The driver, which
runs the command, writes them in order into the same kind of folder as the local engine. Ray restarts a dead actor,
reader or node and repeats its chunk. Results do not depend on the place or the number of attempts.
"""

import logging
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from namepin.agent.api import Namepin
from namepin.agent.batch.local_engine import identity_of
from namepin.agent.batch.out_folder import OutFolder
from namepin.agent.batch.source import Source
from namepin.agent.batch.stages import Passage, Stage, StageWorker, stages_of
from namepin.agent.batch.writing import Progress, RowGroup, Writing, row_groups
from namepin.agent.config.build import TOGETHER, policy, posts_per_group
from namepin.agent.config.settings import Settings
from namepin.tools.base import digest
from namepin.tools.deprecations import hide_foreign_deprecations
from namepin.tools.errors import Exit, NamepinError, install_command

_HELD = 4
"""Number of chunks in each actor's queue; more would only take memory."""
_READER_BYTES = 2**27
_STARTS = 3
"""Attempts to start a Ray on this machine."""
_CONNECT_S = 10.0
"""Seconds after which a silent cluster counts as unreachable."""
_SCHEDULING_S = 60
"""Seconds that a busy machine may need for a round of Ray Data's scheduling."""
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would send usage statistics
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # on stderr; the full logs are in Ray's folder
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that outlives `ray.shutdown` would start a second Ray
}


def run_ray(
    settings: Settings,
    source: Source,
    out: Path,
    *,
    address: str | None = None,
    at_once: int = 16,
    together: int = TOGETHER,
    limit: int | None = None,
    repair: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[Progress, bool]:
    """Process an input into a folder, or resume, as `namepin.agent.batch.local_engine.run_batch`.

    Args:
        settings: the profile; `settings.ray` has the processes of each stage.
        source: the input; on a cluster, a path that every node has.
        out: the output folder on this machine.
        address: address of a running cluster; None for RAY_ADDRESS or, without it, a new Ray on this machine.
        at_once: number of a chunk's posts with pictures in progress at a time.
        together: largest number of posts that share tool calls.
        limit: number of input rows after which to stop.
        repair: continue with a damaged folder, and keep the rows whose lines are whole.
        on_progress: called after each row.

    Raises:
        NamepinError: E301 without Ray, E303 when the cluster cannot be reached or gives up, E50x for the folder, E104
            for the input, E21x and E30x when a required tool cannot start there.
    """
    pin = Namepin(settings)
    with (
        OutFolder(out, identity_of(pin, source), repair=repair) as folder,
        _stopping() as stop,
        _cluster(address, settings, stop),
        Writing(folder, settings.images.max_pixels, source, limit, on_progress, None) as writing,
    ):
        size = posts_per_group(settings, together)
        left = partial(row_groups, source, size, at_once, folder.done, limit, writing.usable.rows)
        passages = _passages(settings, left, at_once)
        decides = {"graph": pin.graph.name, "policy": policy(settings).model_dump(mode="json")}
        fingerprint: str | None = None
        with closing(passages):
            for passage in stop.iterate(passages):
                if passage.refused is not None:
                    raise passage.refused
                mine = digest({**decides, "tools": passage.fingerprints})
                fingerprint = fingerprint or mine
                if mine != fingerprint:
                    mend = "install the same release, weights and settings on every node"
                    raise NamepinError("E303", "the nodes have different tools or weights", mend=mend)
                if not passage.due:
                    continue
                found = passage.extraction and passage.extraction.model_copy(update={"fingerprint": fingerprint})
                writing.put(passage.row(), found, passage.failure)
        writing.end(stop.requested)
        return writing.progress, stop.requested


def _passages(settings: Settings, row_groups: Callable[[], Iterator[RowGroup]], at_once: int) -> Generator[Passage]:
    """The results of the groups with remaining rows, in order."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    if not any(group.due for group in row_groups()):
        return
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # a block is a chunk, so that rows are processed as soon as they are read
    context.enable_progress_bars = False
    folder, pools = os.getcwd(), settings.ray

    def read(_: Any) -> Iterator[Any]:
        os.chdir(folder)
        chunk: list[Passage] = []
        for number, group in enumerate(row_groups()):
            if group.due:
                chunk += [Passage.of(row, number, row.number in group.due) for row in group.rows]
            if len(chunk) >= pools.chunk:
                yield _table([chunk])
                chunk = []
        if chunk:
            yield _table([chunk])

    dataset: ray.data.Dataset = ray.data.from_items([{"item": 0}], override_num_blocks=1)
    # A memory request of its own keeps Ray from merging the reader with the first stage.
    dataset = dataset.map_batches(
        read, batch_size=None, batch_format="pyarrow", num_cpus=pools.reader_cpus, memory=_READER_BYTES
    )
    for stage in stages_of(settings):
        pool = pools.of(stage.kind)
        dataset = dataset.map_batches(
            _Actor,
            fn_constructor_args=(settings, stage, at_once, folder),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            compute=ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=_HELD),
        )
    try:
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for chunk in _chunks(table):
                yield from chunk
    except ray.exceptions.RayError as error:
        what = f"Ray gave up: {' '.join(str(error).split())[:300]}"
        mend = "fix the cluster; the same command continues where this one ended"
        raise NamepinError("E303", what, mend=mend, exit_code=Exit.UNREACHABLE) from error


def _table(chunks: list[list[Passage]]) -> Any:
    import pyarrow

    return pyarrow.table({"chunk": pyarrow.array([pickle.dumps(chunk) for chunk in chunks], pyarrow.large_binary())})


def _chunks(table: Any) -> list[list[Passage]]:
    return [pickle.loads(chunk) for chunk in table["chunk"].to_pylist()]


class _Actor:
    """A process of a stage, started by Ray."""

    def __init__(self, settings: Settings, stage: Stage, at_once: int, folder: str) -> None:
        hide_foreign_deprecations()
        os.chdir(folder)  # paths are relative as on the command line
        self.refused: NamepinError | None = None
        try:
            self.worker = StageWorker(settings, stage, at_once)
        except NamepinError as error:  # Ray would restart a dead actor again and again
            self.refused = error

    def __call__(self, table: Any) -> Any:
        """One or more chunks."""
        if self.refused is None:
            return _table([self.worker.run(chunk) for chunk in _chunks(table)])
        return _table([[replace(one, refused=one.refused or self.refused) for one in c] for c in _chunks(table)])


@contextmanager
def _cluster(address: str | None, settings: Settings, stop: "_Stop") -> Iterator[None]:
    """A connection to the cluster; without an address, a new Ray on this machine's loopback interface."""
    for name, value in _RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        mend = install_command("namepin[scale]")
        what = f"--engine ray needs the package {error.name!r}"
        raise NamepinError("E301", what, mend=mend, exit_code=Exit.UNREACHABLE) from error
    address = address or os.environ.get("RAY_ADDRESS")
    pools = settings.ray
    needed = [pools.of(stage.kind) for stage in stages_of(settings)]
    gpus = sum(pool.actors * pool.gpus for pool in needed)
    cpus = pools.reader_cpus + sum(pool.actors * pool.cpus for pool in needed)
    alone: dict[str, Any] = {
        "num_cpus": max(os.cpu_count() or 1, int(cpus + 1)),  # logical CPUs bound the processes, not their speed
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
    }
    given = {"address": address} if address else {"address": "local", **alone}
    try:
        if address:
            _check_reachable(address)
        _init(given, tries=1 if address else _STARTS)
        stop.listen()
    except Exception as error:  # Ray raises a bare Exception where a node does not start in time
        what = f"no Ray cluster at {address}" if address else f"Ray does not start here: {error}"
        mend = "start it (`ray start --head`), or correct --address"
        raise NamepinError("E303", what, where="--address", mend=mend, exit_code=Exit.UNREACHABLE) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        if not address and gpus > (there := _gpus_there()):
            what = f"the stages need {gpus:g} GPUs, and this machine has {there:g}"
            raise NamepinError(
                "E203", what, where="ray.vision.gpus", mend="lower it, or give the --address of a cluster"
            )
        yield
    finally:
        _await_scheduling()
        ray.shutdown()


def _init(given: dict[str, Any], tries: int) -> None:
    """`ray.init`. Ray gives a node of its own 30 s to start, which a busy machine may need twice."""
    import ray

    while True:
        try:
            ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
            return
        except SystemExit as error:  # Ray's own handler of SIGTERM, which replaces ours
            raise KeyboardInterrupt from error
        except Exception as error:  # Ray raises no other kind here
            tries -= 1
            ray.shutdown()
            if not tries or "timed out" not in str(error):
                raise


def _await_scheduling() -> None:
    """Wait for the threads of Ray Data, which itself waits 2 s. A closed Ray ends the process of those that ask it."""
    for thread in threading.enumerate():
        if type(thread).__name__ == "StreamingExecutor":
            thread.join(_SCHEDULING_S)


def _check_reachable(address: str) -> None:
    """Test the connection, since Ray itself tries for minutes. Raises `OSError`, or `ValueError` for a bad port."""
    host, colon, port = address.rpartition(":")
    if colon and "://" not in address:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()


def _gpus_there() -> float:
    import ray

    resources: dict[str, float] = ray.cluster_resources()
    return resources.get("GPU", 0.0)


class _Stop:
    """A request to stop, and the loop that it ends: between two rows, or while the next one is awaited."""

    def __init__(self) -> None:
        self.requested = False
        self._waits = False
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Let the first Ctrl-C or SIGTERM (a scheduler's) request a stop; the second one ends the process."""
        if threading.current_thread() is threading.main_thread() and not self.requested:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._request)

    def restore(self) -> None:
        """Give the signals back their handlers."""
        while self._before:
            signal.signal(*self._before.popitem())

    def iterate(self, passages: Iterator[Passage]) -> Iterator[Passage]:
        """The passages until a stop is requested. One that arrives with the request is left for the next run."""
        try:
            while not self.requested:
                self._waits = True
                passage = next(passages, None)
                self._waits = False
                if passage is None:
                    return
                yield passage
        except KeyboardInterrupt:
            if not self.requested:
                raise

    def _request(self, *_: object) -> None:
        self.restore()
        self.requested = True
        if self._waits:
            self._waits = False
            raise KeyboardInterrupt  # the one that Ray passes on from within its waits


@contextmanager
def _stopping() -> Iterator[_Stop]:
    stop = _Stop()
    stop.listen()
    try:
        yield stop
    finally:
        stop.restore()
