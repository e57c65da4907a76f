"""Nets sharded over several processes (FSDP): they are gathered to be scored, saved and resumed.

Without FSDP, these functions change nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, parse_flag_from_env
from torch import Tensor, nn

from namepin.tools.errors import NamepinError


def set_up_fsdp(accelerator: Accelerator) -> None:
    """Shard the net where accelerate's configuration asks for FSDP; also on CPUs, where accelerate does not.

    Raises:
        NamepinError: E203 for FSDP's first version, which flattens parameters.
    """
    state: Any = accelerator.state
    several = accelerator.num_processes > 1
    if several and accelerator.device.type == "cpu" and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        plugin = FullyShardedDataParallelPlugin()  # which reads accelerate's configuration from the environment
        if accelerator.mixed_precision != "no":
            plugin.set_mixed_precision(accelerator.mixed_precision)
        state.fsdp_plugin = plugin
        for one in (state, PartialState()):
            one.distributed_type = DistributedType.FSDP
    if accelerator.distributed_type == DistributedType.FSDP and state.fsdp_plugin.fsdp_version != 2:
        mend = "set fsdp_version: 2, as finetune/accelerate/fsdp.yaml does"
        raise NamepinError("E203", "fsdp_version: FSDP's first version is not supported", mend=mend)


def layers_of(net: nn.Module) -> list[str]:
    """Names of the layer classes that FSDP may shard one by one: those that transformers marks as indivisible.

    Embedding tables are left out: nets may read a table without calling the module that holds it.
    """
    named = {name for part in (net, *net.children()) for name in getattr(part, "_no_split_modules", None) or ()}
    tables = {type(one).__name__ for one in net.modules() if any(isinstance(c, nn.Embedding) for c in one.children())}
    return sorted(named & {type(module).__name__ for module in net.modules()} - tables)


def is_spread(value: Any) -> bool:
    """Whether a tensor is sharded. torch's own class is not imported, which takes a second."""
    return hasattr(value, "full_tensor")


def whole(value: Any) -> Tensor:
    """The whole tensor on the CPU. For a sharded tensor every process must call this."""
    full: Tensor = value.full_tensor() if is_spread(value) else value
    return full.detach().cpu().clone()


def like(value: Tensor, place: Any) -> Tensor:
    """A whole tensor, sharded as the parameter that it belongs to."""
    if not is_spread(place):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(place.device, place.dtype), place.device_mesh, place.placements)


def full_states(optimiser: Any) -> dict[str, Any]:
    """An optimiser's state with whole tensors, as in a single process."""
    state: dict[str, Any] = optimiser.state_dict()
    if not any(is_spread(value) for one in state["state"].values() for value in one.values()):
        return state
    states = {
        key: {name: whole(value) if isinstance(value, Tensor) else value for name, value in one.items()}
        for key, one in state["state"].items()
    }
    return {**state, "state": states}


def load_states(optimiser: Any, state: Mapping[str, Any]) -> None:
    """The reverse of `whole_states`."""
    places = [place for group in optimiser.param_groups for place in group["params"]]
    states = {
        key: {
            name: like(value, places[key]) if isinstance(value, Tensor) and value.ndim else value
            for name, value in one.items()
        }
        for key, one in state["state"].items()
    }
    optimiser.load_state_dict({**state, "state": states})


@contextmanager
def gather_parameters(net: nn.Module, *, keep: bool) -> Iterator[None]:
    """Gather sharded parameters on the CPU for a while, to save them; every process must call this.

    Args:
        net: a sharded net.
        keep: whether this process keeps the parameters; the other processes only send their parts.
    """
    places = [
        (module, name, value)
        for module in net.modules()
        for name, value in module._parameters.items()
        if value is not None and is_spread(value)
    ]
    replacements: dict[int, nn.Parameter] = {}  # tied parameters stay tied
    for _, _, value in places:
        if id(value) not in replacements:
            full = whole(value)
            replacements[id(value)] = nn.Parameter(full if keep else torch.empty(0), requires_grad=value.requires_grad)
    for module, name, value in places:
        module._parameters[name] = replacements[id(value)]
    try:
        yield
    finally:
        for module, name, value in places:
            module._parameters[name] = value


@contextmanager
def callable_in_parts(objective: Any) -> Iterator[None]:
    """Gather the parameters outside the layers for a while, so that parts of the net may be called alone."""
    spread = hasattr(objective, "unshard")
    if spread:
        objective.unshard()
    yield
    if spread:
        objective.reshard()
