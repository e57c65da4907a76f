"""Two ranks of one run on loopback, forked from the process that calls `main`.

OUT/ddp: data parallel; OUT/fsdp: stopped after an epoch and resumed. The tool is `matcher`, `tagger` or `extractor`, of
which the last one is data parallel only.
"""

import os
import socket
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

import torch.distributed as dist
from accelerate.state import AcceleratorState

from namepin.agent.cli.main import run
from namepin.finetune.loop.trainer import Run

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What `accelerate launch` makes of finetune/accelerate/fsdp.yaml."""


class Stopped(BaseException):
    """In place of a kill."""


SETTINGS = {
    "matcher": {"lr": 1e-3},
    "tagger": {
        "lr_encoder": 1e-3,
        "lr_heads": 5e-3,
        "ema": 0.9,
        "dropout": 0,
        "hide": 0,
        "precision": "no",
        "threads": 1,
        "knowledge_pieces": 24,
    },
    "extractor": {
        "batch_size": 4,
        "accumulate": 1,
        "lr": 1e-3,
        "rank": 8,
        "alpha": 16,
        "dropout": 0,
        "dtype": "float32",
        "longest": 40,
        "min_pixels": 28 * 28,
        "max_pixels": 56 * 56,
    },
}


def settings_of(tool: str, world: str, weights: str, out: Path) -> dict[str, object]:
    """A recipe's settings, the same for one process and for two."""
    names = {"tagger": ("data", "encoder")}.get(tool, ("root", "weights"))
    settings = {**dict(zip(names, (world, weights), strict=True)), "out": out, "epochs": 2, "warmup": 0.0}
    return settings | {"batch_size": 3, "patience": 9, "cpu": "true"} | SETTINGS[tool]


def finetune(ports: list[int], tool: str, world: str, weights: str, out: Path, *more: str) -> None:
    """`namepin finetune TOOL`, in this process; the ranks meet on the next port.

    On one port, the quicker rank's next run could meet the slower one's last, and wait for ever.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ["MASTER_PORT"] = str(ports.pop(0))
    settings = settings_of(tool, world, weights, out)
    sys.argv = ["namepin", "finetune", tool]
    sys.argv += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")] + list(more)
    try:
        run()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        if dist.is_initialized():  # a run that came to its end has done so
            dist.destroy_process_group()


def rank(ports: list[int], tool: str, world: str, weights: str, out: Path) -> None:
    """What either process does."""
    finetune(ports, tool, world, weights, out / "ddp")
    if tool == "extractor":
        return
    os.environ.update(FSDP)
    whole = Run._checkpoint

    def stop(self: Run) -> None:
        whole(self)
        if self.now.done:  # within an epoch
            return
        assert self.now.epoch, "a net that is spread cannot be scored before it has taken a step"
        parameters = list(self.task.net.parameters())
        spread = sum(value.to_local().numel() for value in parameters)  # type: ignore[operator]
        assert spread < 0.6 * sum(value.numel() for value in parameters), "each has its half"
        raise Stopped

    Run._checkpoint = stop  # type: ignore[method-assign]
    try:
        finetune(ports, tool, world, weights, out / "fsdp", "--set", "checkpoint_steps=3")
    except Stopped:
        Run._checkpoint = whole  # type: ignore[method-assign]
        finetune(ports, tool, world, weights, out / "fsdp", "--resume")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def main(tool: str, world: str, weights: str, out: Path) -> None:
    """Fork two ranks, and fail where one does."""
    ports = free_ports(3)
    told = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ.update(told | {"GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true"})
    children = []
    for number in ("0", "1"):
        child = os.fork()
        if child == 0:
            os.environ.update({"RANK": number, "LOCAL_RANK": number})
            failed = 1
            try:
                rank(ports, tool, world, weights, out)
                failed = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(failed)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
