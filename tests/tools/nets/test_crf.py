"""The CRF against brute-force enumeration of every tag sequence."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from namepin.tools.nets.crf import CRF, FORBIDDEN, bio_legal_moves, bio_tags


def random_crf(num_tags: int, seed: int, scale: float, legal: torch.Tensor | None = None) -> CRF:
    torch.manual_seed(seed)
    crf = CRF(num_tags, legal)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(0, scale)
    return crf


def brute_force(crf: CRF, emissions: torch.Tensor, length: int) -> dict[tuple[int, ...], float]:
    """Log-potential of every tag sequence of one post, summed naively in float64."""
    start, transitions, end = (p.detach().double() for p in crf.potentials())
    table = {}
    for path in itertools.product(range(crf.num_tags), repeat=length):
        total = start[path[0]] + end[path[-1]] + sum(emissions[t, tag].double() for t, tag in enumerate(path))
        total = total + sum(transitions[a, b] for a, b in itertools.pairwise(path))
        table[path] = float(total)
    return table


cases = given(
    num_tags=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.1, 1.0, 8.0]),
)


@settings(max_examples=40)
@cases
def test_crf_quantities_equal_full_enumeration(num_tags: int, lengths: list[int], seed: int, scale: float) -> None:
    crf = random_crf(num_tags, seed, scale)
    width = max(lengths) + 1
    emissions = torch.randn(len(lengths), width, num_tags) * scale
    mask = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    tags = torch.randint(0, num_tags, (len(lengths), width))
    weights = torch.rand(len(lengths), width, num_tags).clamp_min(1e-3).log()

    partition = crf.log_partition(emissions, mask)
    score = crf.score(emissions, tags, mask)
    partial = crf.partial_nll(emissions, weights, mask)
    marginals = crf.marginals(emissions, mask)
    paths = crf.decode(emissions, mask)

    for b, length in enumerate(lengths):
        table = brute_force(crf, emissions[b], length)
        values = torch.tensor(list(table.values()), dtype=torch.float64)
        log_z = torch.logsumexp(values, 0)
        assert float(partition[b].detach()) == pytest.approx(float(log_z), rel=1e-5, abs=1e-4)
        assert float(score[b].detach()) == pytest.approx(table[tuple(tags[b, :length].tolist())], rel=1e-5, abs=1e-4)
        assert table[tuple(paths[b])] == pytest.approx(max(table.values()), rel=1e-5, abs=1e-4)
        weighted = torch.tensor(
            [v + sum(float(weights[b, t, tag]) for t, tag in enumerate(path)) for path, v in table.items()],
            dtype=torch.float64,
        )
        assert float(partial[b].detach()) == pytest.approx(float(log_z - torch.logsumexp(weighted, 0)), abs=1e-3)
        expected = torch.zeros(width, num_tags, dtype=torch.float64)
        for path, probability in zip(table, (values - log_z).exp(), strict=True):
            for t, tag in enumerate(path):
                expected[t, tag] += probability
        assert torch.allclose(marginals[b].double(), expected, atol=1e-4)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 4))
def test_crf_illegal_moves_have_zero_probability(seed: int, length: int) -> None:
    legal = bio_legal_moves(2)
    crf = random_crf(5, seed, 2.0, legal)
    emissions = torch.randn(1, length, 5) * 3
    mask = torch.ones(1, length, dtype=torch.bool)
    names = bio_tags(("X", "Y"))

    def is_legal(path: tuple[int, ...]) -> bool:
        before = "O"
        for tag in path:
            name = names[tag]
            if name.startswith("I-") and before[2:] != name[2:]:
                return False
            before = name
        return True

    table = {path: v for path, v in brute_force(crf, emissions[0], length).items() if is_legal(path)}
    log_z = torch.logsumexp(torch.tensor(list(table.values()), dtype=torch.float64), 0)
    assert float(crf.log_partition(emissions, mask)[0].detach()) == pytest.approx(float(log_z), abs=1e-4)
    (path,) = crf.decode(emissions, mask)
    assert is_legal(tuple(path))
    assert table[tuple(path)] == pytest.approx(max(table.values()), abs=1e-4)


def test_crf_partial_nll_of_hard_weights_equals_gold_nll() -> None:
    crf = random_crf(5, 3, 1.0, bio_legal_moves(2))
    emissions = (torch.randn(3, 6, 5) * 5).requires_grad_()
    mask = torch.arange(6) < torch.tensor([[6], [1], [4]])
    tags = torch.tensor([[0, 1, 2, 2, 0, 3], [1, 0, 0, 0, 0, 0], [3, 4, 1, 0, 0, 0]])
    weights = torch.full((3, 6, 5), FORBIDDEN).scatter(2, tags.unsqueeze(2), 0.0)
    partial = crf.partial_nll(emissions, weights, mask)
    assert torch.allclose(partial, crf.nll(emissions, tags, mask), atol=1e-3)
    partial.sum().backward()
    assert emissions.grad is not None and torch.isfinite(emissions.grad).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in crf.parameters())


def test_crf_equals_pytorch_crf() -> None:
    torchcrf = pytest.importorskip("torchcrf")
    crf = random_crf(103, 0, 0.5)
    other = torchcrf.CRF(103, batch_first=True)
    with torch.no_grad():
        other.transitions.copy_(crf.transitions)
        other.start_transitions.copy_(crf.start)
        other.end_transitions.copy_(crf.end)
    emissions = torch.randn(8, 20, 103)
    mask = torch.arange(20) < torch.randint(1, 21, (8, 1))
    tags = torch.randint(0, 103, (8, 20))
    ours, theirs = crf.nll(emissions, tags, mask), -other(emissions, tags, mask, reduction="none")
    assert torch.allclose(ours, theirs, rtol=1e-4)
    spread = torch.rand(8)
    (ours * spread).sum().backward()
    (theirs * spread).sum().backward()
    for mine, its in [
        (crf.transitions, other.transitions),
        (crf.start, other.start_transitions),
        (crf.end, other.end_transitions),
    ]:
        assert mine.grad is not None and torch.allclose(mine.grad, its.grad, atol=1e-4)
    assert crf.decode(emissions, mask) == other.decode(emissions, mask)
