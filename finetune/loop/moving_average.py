"""An exponential moving average of a net's trainable weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from namepin.finetune.loop.fsdp import like, whole


class MovingAverage:
    """The average of a net's trainable parameters over the steps so far."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.values = {name: value.detach().clone() for name, value in trainable(net).items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Add one step. The decay is smaller at first, so that the initial weights soon lose their influence."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in trainable(net).items():
            self.values[name].lerp_(value, 1 - decay)

    @contextmanager
    def in_place_of(self, net: nn.Module) -> Iterator[None]:
        """Give the net the averaged weights for a while."""
        places = trainable(net)
        latest = {name: value.detach().clone() for name, value in places.items()}
        _copy(self.values, places)
        try:
            yield
        finally:
            _copy(latest, places)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, on the CPU. Under FSDP every process must call this."""
        return {"steps": self.steps, "values": {name: whole(value) for name, value in self.values.items()}}

    def restore(self, state: Mapping[str, Any], net: nn.Module) -> None:
        """The reverse of `state`."""
        places = trainable(net)
        self.steps = state["steps"]
        _copy({name: like(value, places[name]) for name, value in state["values"].items()}, self.values)


def trainable(net: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters."""
    return {name: value for name, value in net.named_parameters() if value.requires_grad}


@torch.no_grad()
def _copy(values: Mapping[str, Tensor], places: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        places[name].copy_(value)
