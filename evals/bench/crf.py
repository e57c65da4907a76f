"""Our CRF against pytorch-crf 0.7.2 on the shapes of the 51-type path: 64 posts, 40 words, 103 tags."""

from collections.abc import Callable
from typing import Any

import torch

from namepin.evals.bench.harness import time_interleaved
from namepin.tools.errors import NamepinError, install_command
from namepin.tools.nets.crf import CRF

POSTS, WORDS, TAGS = 64, 40, 103


def bench(rounds: int = 15) -> dict[str, float]:
    """Median seconds of both CRFs for the log-partition with its gradient, and for Viterbi.

    Returns:
        `speedup` of both steps together; `train_speedup` and `viterbi_speedup` of each step; `max_relative_difference`
        of the log-partition and of its gradient with respect to the emissions.

    Raises:
        NamepinError: E301 when the baseline is not installed.
    """
    try:
        from torchcrf import CRF as Baseline
    except ModuleNotFoundError as error:
        mend = install_command("namepin[dev]")
        raise NamepinError("E301", "this bench compares with pytorch-crf, which is missing", mend=mend) from error

    torch.manual_seed(0)
    theirs: Any = Baseline(TAGS, batch_first=True)
    ours = CRF(TAGS)
    with torch.no_grad():
        ours.start.copy_(theirs.start_transitions)
        ours.transitions.copy_(theirs.transitions)
        ours.end.copy_(theirs.end_transitions)
    emissions = torch.randn(POSTS, WORDS, TAGS, requires_grad=True)
    mask = torch.arange(WORDS) < torch.randint(WORDS // 4, WORDS + 1, (POSTS, 1))
    mask[0] = True  # one post of full length
    tags = torch.randint(0, TAGS, (POSTS, WORDS))

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, emissions)[0]

    def train_ours() -> torch.Tensor:
        return gradient(ours.nll(emissions, tags, mask).sum())

    def train_theirs() -> torch.Tensor:
        return gradient(-theirs(emissions, tags, mask, reduction="sum"))

    ways: dict[str, Callable[[], object]] = {
        "train_ours_s": train_ours,
        "train_theirs_s": train_theirs,
        "viterbi_ours_s": lambda: ours.decode(emissions, mask),
        "viterbi_theirs_s": lambda: theirs.decode(emissions, mask),
    }
    assert ways["viterbi_ours_s"]() == ways["viterbi_theirs_s"](), "the two decoders disagree"
    with torch.no_grad():
        log_z = ours.nll(emissions, tags, mask)
        reference = -theirs(emissions, tags, mask, reduction="none")
    difference = max(_relative(log_z, reference), _relative(train_ours(), train_theirs()))
    seconds = time_interleaved(ways, rounds)
    return {
        **seconds,
        "speedup": (seconds["train_theirs_s"] + seconds["viterbi_theirs_s"])
        / (seconds["train_ours_s"] + seconds["viterbi_ours_s"]),
        "train_speedup": seconds["train_theirs_s"] / seconds["train_ours_s"],
        "viterbi_speedup": seconds["viterbi_theirs_s"] / seconds["viterbi_ours_s"],
        "max_relative_difference": difference,
    }


def _relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, relative to the largest magnitude."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
