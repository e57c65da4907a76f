"""OFA's net: the reference's own numbers, plain loops, the cache against whole passes, and the beam search."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from namepin.tools.models.ofa_vocabulary import pad_rows
from namepin.tools.nets.ofa import Beams, Ofa, beam_search, continuations
from namepin.tools.nets.ofa.attention import patch_buckets, word_buckets
from support import tiny_ofa
from support.paths import GOLDEN

GOLDEN_FILE = GOLDEN / "ofa_tiny.npz"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> Ofa:
    return tiny_ofa.tiny_net()


def test_ofa_forward_equals_golden_arrays_of_reference(net: Ofa) -> None:
    """OFA-Sys's fairseq modules on the same weights: one text padded, pictures that are no squares, beams of 5."""
    golden = np.load(GOLDEN_FILE)
    pixels, ids, tokens = (torch.from_numpy(golden[key]) for key in ("pixels", "ids", "tokens"))
    with torch.no_grad():
        memory = net.encode(net.look(pixels), ids, ids != 1)
        found = continuations(net, memory, 0, the_places(), 5)
        logits = net(pixels, ids, ids != 1, tokens)[..., golden["columns"]]
    assert memory.mask is not None and not memory.mask.all()
    close(memory.states[memory.mask], golden["encoder"])
    close(logits, golden["logits"])
    assert found.tokens.tolist() == golden["beams"].tolist()
    close(found.scores / 5, golden["scores"])


def close(found: Tensor, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found.numpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()


def the_places() -> list[Tensor]:
    return [tiny_ofa.tiny_words().bin_ids()] * 4 + [torch.tensor([2])]


def some_memory(net: Ofa, texts: list[list[int]], seed: int = 0) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 3, 64, 48)).astype(np.float32))
    return pixels, pad_rows(texts, CPU)


def test_ofa_decode_of_padded_texts_equals_single_texts(net: Ofa) -> None:
    texts = [[0, 5, 6, 7, 2], [0, 9, 2], [0, *range(20, 60), 2]]
    pixels, ids = some_memory(net, texts)
    starts = torch.tensor([[0, 4, 5], [0, 6, 7], [0, 8, 9]])
    with torch.no_grad():
        together, _ = net.decode(starts, net.encode(net.look(pixels), ids, ids != 1))
        for row, text in enumerate(texts):
            alone = torch.tensor([text])
            states, _ = net.decode(starts[row : row + 1], net.encode(net.look(pixels), alone, alone != 1))
            assert torch.allclose(together[row], states[0], atol=1e-5)


def test_ofa_decode_with_cache_equals_whole_pass(net: Ofa) -> None:
    pixels, ids = some_memory(net, [[0, 5, 6, 7, 2], [0, 9, 2]])
    rows = torch.from_numpy(np.random.default_rng(1).integers(4, 200, (6, 40)))  # three rows for each text
    with torch.no_grad():
        memory = net.encode(net.look(pixels), ids, ids != 1)
        whole, _ = net.decode(rows, memory)
        parts, cache = [], None
        for part in rows.split([1, 1, 30, 8], dim=1):
            states, cache = net.decode(part, memory, cache)
            parts.append(states)
    assert cache is not None and cache.length == 40
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)


def test_ofa_decode_states_are_independent_of_later_tokens(net: Ofa) -> None:
    pixels, ids = some_memory(net, [[0, 5, 2]])
    rows = torch.tensor([[0, 7, 8, 9], [0, 7, 100, 101]])
    with torch.no_grad():
        states, _ = net.decode(rows, net.encode(net.look(pixels), ids, ids != 1))
    assert torch.allclose(states[0, :2], states[1, :2], atol=1e-6)
    assert not torch.allclose(states[0, 2:], states[1, 2:], atol=1e-2)


def naive_bucket(distance: int, size: int) -> int:
    near = size // 2
    if abs(distance) <= near:
        return distance + size - 1
    far = near + math.ceil(math.log(abs(distance) / near) / math.log(1023 / near) * (near - 1))
    return (far if distance > 0 else -far) + size - 1


@pytest.mark.parametrize(("size", "words"), [(256, 1024), (16, 300), (4, 9)])
def test_word_buckets_equal_naive_formula(size: int, words: int) -> None:
    buckets = word_buckets(0, words, size, CPU)
    assert buckets.min() >= 0 and buckets.max() <= 2 * size - 2
    for start, other in itertools.islice(itertools.product(range(0, words, 7), range(0, words, 5)), 4000):
        # float32 may put a distance that lies on a boundary one bucket further
        assert abs(int(buckets[start, other]) - naive_bucket(start - other, size)) <= 1
        assert int(buckets[start, other]) == naive_bucket(start - other, size) or abs(start - other) > size // 2
    assert torch.equal(word_buckets(words - 2, words, size, CPU), buckets[-2:])


def test_patch_buckets_equal_relative_positions() -> None:
    buckets = patch_buckets(2, 3, 6, CPU)
    for (row, column), (other_row, other_column) in itertools.product(itertools.product(range(2), range(3)), repeat=2):
        wanted = (row - other_row + 5) * 11 + (column - other_column + 5)
        assert buckets[row * 3 + column, other_row * 3 + other_column] == wanted
    assert len(buckets.unique()) == 3 * 5


def a_model(seed: int, vocabulary: int, places: int) -> dict[tuple[int, ...], Tensor]:
    """Log-probabilities after every prefix."""
    generator = torch.Generator().manual_seed(seed)
    prefixes = (p for n in range(places) for p in itertools.product(range(vocabulary), repeat=n))
    return {prefix: (2 * torch.randn(vocabulary, generator=generator)).log_softmax(-1) for prefix in prefixes}


def search(models: list[dict[tuple[int, ...], Tensor]], allowed: list[list[int]], width: int) -> Beams:
    """Beam search that asks tables, and must say right which beam each token continues."""
    before: list[list[tuple[int, ...]]] = [[()] for _ in models]

    def step(tokens: Tensor, parents: Tensor | None) -> Tensor:
        nonlocal before
        if parents is not None:
            pairs = zip(before, parents.tolist(), tokens.tolist(), strict=True)
            before = [[own[p] + (t,) for p, t in zip(ps, ts, strict=True)] for own, ps, ts in pairs]
        rows = [[model[p] for p in own] for model, own in zip(models, before, strict=True)]
        return torch.stack([torch.stack(row) for row in rows])

    return beam_search(step, torch.zeros(len(models)).long(), [torch.tensor(ids) for ids in allowed], width)


def by_hand(
    model: dict[tuple[int, ...], Tensor], allowed: list[list[int]], width: int
) -> list[tuple[float, list[int]]]:
    kept = [(0.0, [])] if allowed else []
    for ids in allowed:
        longer = [(score + float(model[tuple(found)][i]), [*found, i]) for score, found in kept for i in ids]
        kept = sorted(longer, key=lambda pair: -pair[0])[:width]
    return kept


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 4), st.data())
@settings(max_examples=60)
def test_beam_search_equals_hand_written_search(seed: int, vocabulary: int, places: int, data: st.DataObject) -> None:
    ids = st.lists(st.integers(0, vocabulary - 1), min_size=1, unique=True)
    allowed = data.draw(st.lists(ids, min_size=places, max_size=places))
    width = data.draw(st.integers(1, vocabulary**places))
    models = [a_model(seed + row, vocabulary, places) for row in range(2)]
    found = search(models, allowed, width)
    for row, model in enumerate(models):
        wanted = by_hand(model, allowed, width)
        assert found.tokens[row].tolist() == [tokens for _, tokens in wanted]
        assert found.scores[row].tolist() == pytest.approx([score for score, _ in wanted], abs=1e-4)


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_beam_search_with_full_width_finds_best_sequence(seed: int) -> None:
    model = a_model(seed, 3, 4)
    found = search([model], [[0, 1, 2]] * 4, 27)
    sums = {p: sum(float(model[p[:n]][p[n]]) for n in range(4)) for p in itertools.product(range(3), repeat=4)}
    assert tuple(found.tokens[0, 0].tolist()) == max(sums, key=lambda p: sums[p])


def test_continuations_of_net_equal_search_by_whole_passes(net: Ofa) -> None:
    """No cache: each beam's tokens are read anew at every step."""
    pixels, ids = some_memory(net, [[0, 5, 6, 7, 2], [0, 9, 2]])
    places = [place[::25] for place in the_places()[:4]] + [torch.tensor([2])]
    with torch.no_grad():
        found = continuations(net, net.encode(net.look(pixels), ids, ids != 1), 0, places, 3)
        for row, text in enumerate(ids):
            own = text[text != 1][None]
            memory = net.encode(net.look(pixels), own, own == own)
            kept = [(0.0, [0])]
            for place in places:
                longer = []
                for score, tokens in kept:
                    states, _ = net.decode(torch.tensor([tokens]), memory)
                    log_probs = net.logits(states[0, -1]).log_softmax(-1)
                    longer += [(score + float(log_probs[i]), [*tokens, int(i)]) for i in place]
                kept = sorted(longer, key=lambda pair: -pair[0])[:3]
            assert found.tokens[row].tolist() == [tokens[1:] for _, tokens in kept]
            assert found.scores[row].tolist() == pytest.approx([score for score, _ in kept], abs=1e-4)
