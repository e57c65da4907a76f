"""A linear-chain conditional random field (GEM equations 5-7), vectorised over the batch.

Shapes: B posts, L words, T tags. Emissions are unnormalised log-potentials `(B, L, T)`; a mask `(B, L)` is true at real
words, and every row is a non-empty run of true followed by false.

The recursions work on probabilities rescaled at each step, not on logarithms: one step is then one matrix product
`(B, T) @ (T, T)`, and the gradient is computed analytically (forward-backward). They run in float64, whose exponent
leaves room for potentials that differ by about 700 within one word, far beyond what a trained net emits.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

FORBIDDEN = -1e4
"""Added to the potentials of illegal moves; finite, so that gradients stay finite."""


class CRF(nn.Module):
    """Transition, start and end potentials over `num_tags` tags.

    Args:
        num_tags: T.
        legal: optional boolean `(T + 2, T + 2)` of legal moves, as `bio_legal_moves` makes it; illegal ones get
            probability zero in training and in decoding. None lets every tag follow every tag, as in the paper.
    """

    legal: Tensor | None

    def __init__(self, num_tags: int, legal: Tensor | None = None) -> None:
        super().__init__()
        self.num_tags = num_tags
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags).uniform_(-0.1, 0.1))
        self.start = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))
        self.end = nn.Parameter(torch.empty(num_tags).uniform_(-0.1, 0.1))
        self.register_buffer("legal", legal, persistent=False)

    def potentials(self) -> tuple[Tensor, Tensor, Tensor]:
        """Start `(T,)`, transition `(T, T)` (from, to) and end `(T,)` potentials, illegal moves ruled out."""
        if self.legal is None:
            return self.start, self.transitions, self.end
        begin, between, finish = self.legal[-2, :-2], self.legal[:-2, :-2], self.legal[:-2, -1]
        return (
            self.start.masked_fill(~begin, FORBIDDEN),
            self.transitions.masked_fill(~between, FORBIDDEN),
            self.end.masked_fill(~finish, FORBIDDEN),
        )

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Log-potential of one tag sequence per post: `(B,)`; `tags` is `(B, L)`, any value where the mask is false."""
        start, transitions, end = self.potentials()
        tags = tags.masked_fill(~mask, 0)
        emitted = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        moved = transitions[tags[:, :-1], tags[:, 1:]]
        last = tags.gather(1, mask.sum(1, keepdim=True) - 1).squeeze(1)
        return start[tags[:, 0]] + (emitted * mask).sum(1) + (moved * mask[:, 1:]).sum(1) + end[last]

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log of the summed potentials of all tag sequences: `(B,)`.

        To sum over some sequences only, add `FORBIDDEN` to the emissions that they exclude.
        """
        summed: Any = _LogPartition.apply  # which PyTorch leaves untyped
        return cast(Tensor, summed(emissions, *self.potentials(), mask))

    def nll(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood of the gold tags (equations 6 and 7): `(B,)`."""
        return self.log_partition(emissions, mask) - self.score(emissions, tags, mask)

    def partial_nll(self, emissions: Tensor, log_weights: Tensor, mask: Tensor) -> Tensor:
        """Negative log of the weighted share of the sequences that the annotation allows: `(B,)`.

        Args:
            emissions: `(B, L, T)`.
            log_weights: `(B, L, T)`, the log-weight of each tag at each word; `FORBIDDEN` where it is excluded. With
                all weight on one tag per word, the result is that of `nll`.
            mask: `(B, L)`.
        """
        return self.log_partition(emissions, mask) - self.log_partition(emissions + log_weights, mask)

    def decode(self, emissions: Tensor, mask: Tensor) -> list[list[int]]:
        """The best tag sequence of each post (Viterbi); lists of the posts' own lengths."""
        with torch.no_grad():
            start, transitions, end = self.potentials()
            arriving = transitions.t().contiguous()
            best_arrivals = _bio_arrivals(arriving) if self._is_bio() else _arrivals(arriving)
            scores = [start + emissions[:, 0]]
            for t in range(1, emissions.shape[1]):
                best = best_arrivals(scores[-1]) + emissions[:, t]
                scores.append(torch.where(mask[:, t : t + 1], best, scores[-1]))
            # Only the winning path is traced back, so no back-pointers are stored on the way.
            tags = [(scores[-1] + end).argmax(1)]
            for t in range(emissions.shape[1] - 1, 0, -1):
                previous = (scores[t - 1] + arriving[tags[-1]]).argmax(1)
                tags.append(torch.where(mask[:, t], previous, tags[-1]))
            paths = torch.stack(tags[::-1], 1).tolist()
        lengths = mask.sum(1).tolist()
        return [path[:length] for path, length in zip(paths, lengths, strict=True)]

    def _is_bio(self) -> bool:
        """Whether the legal moves are those of BIO tags."""
        return self.legal is not None and bool(torch.equal(self.legal.cpu(), bio_legal_moves(self.num_tags // 2)))

    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Probability of each tag at each word: `(B, L, T)`, zero where the mask is false. No gradient."""
        with torch.no_grad():
            chain = _Chain(emissions, *self.potentials(), mask)
            return (chain.marginals(chain.backward()) * mask.unsqueeze(2)).to(emissions.dtype)


def _arrivals(arriving: Tensor) -> Callable[[Tensor], Tensor]:
    """The best score `(B, T)` of arriving at each tag, from the scores `(B, T)` of the tags before.

    Args:
        arriving: `(T, T)` transition potentials (to, from).
    """
    return lambda scores: (scores.unsqueeze(1) + arriving).amax(2)


def _bio_arrivals(arriving: Tensor) -> Callable[[Tensor], Tensor]:
    """As `_arrivals`, in half the time: an inside tag is reached from itself and from its beginning tag alone."""
    outside = torch.cat([arriving[:1], arriving[1::2]])
    stay, enter = arriving.diagonal()[2::2], arriving.diagonal(-1)[1::2]

    def best(scores: Tensor) -> Tensor:
        result = torch.empty_like(scores)
        free = (scores.unsqueeze(1) + outside).amax(2)
        result[:, 0], result[:, 1::2] = free[:, 0], free[:, 1:]
        result[:, 2::2] = torch.maximum(scores[:, 1::2] + enter, scores[:, 2::2] + stay)
        return result

    return best


class _Chain:
    """One forward pass over a batch of chains, with the values that the backward pass needs.

    `states[t]` is the distribution over tags given the words up to t; `totals` are the sums that normalise it. All
    shifts are taken out before `exp` and added back to `log_z`.
    """

    def __init__(self, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> None:
        self.mask = mask
        emissions, start, transitions, end = (x.detach().double() for x in (emissions, start, transitions, end))
        peak, top, first, last = emissions.amax(2, keepdim=True), transitions.max(), start.max(), end.max()
        self.step = (transitions - top).exp()
        self.end = (end - last).exp()
        # Time first: each step then reads and writes contiguous memory.
        self.weights = (emissions - peak).exp().transpose(0, 1).contiguous()
        self.real = mask.t().unsqueeze(2)
        state = (start - first).exp() * self.weights[0]
        states, totals = [], []
        for t in range(emissions.shape[1]):
            if t:
                state = torch.where(self.real[t], (state @ self.step) * self.weights[t], state)
            total = state.sum(1, keepdim=True)
            state = state / total
            states.append(state)
            totals.append(total)
        self.states, self.totals = torch.stack(states), torch.stack(totals)
        self.ending = (state * self.end).sum(1, keepdim=True)
        # A padded step does not change the state, so its total is 1 and the logarithm 0.
        shifts = (peak.squeeze(2) * mask).sum(1) + top * (mask.sum(1) - 1) + first + last
        self.log_z = self.totals.log().sum((0, 2)) + self.ending.log().squeeze(1) + shifts

    def backward(self) -> Tensor:
        """`(L, B, T)`: backward messages of the words after t, scaled so that states * backward sums to 1."""
        reverse = self.step.t().contiguous()
        message = self.end / self.ending
        messages = [message]
        for t in range(len(self.states) - 1, 0, -1):
            carried = ((self.weights[t] * message) / self.totals[t]) @ reverse
            message = torch.where(self.real[t], carried, message)
            messages.append(message)
        return torch.stack(messages[::-1])

    def marginals(self, messages: Tensor) -> Tensor:
        """`(B, L, T)`, padding not yet zeroed."""
        return (self.states * messages).transpose(0, 1)


class _LogPartition(torch.autograd.Function):
    """Log-partition with its analytic gradient: the marginals of tags and of moves.

    One matrix product sums the moves of all words, because a loop would dominate the time.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
        ctx.chain = _Chain(emissions, start, transitions, end, mask)
        ctx.dtype = emissions.dtype
        return cast(Tensor, ctx.chain.log_z.to(start.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        chain: _Chain = ctx.chain
        outer = gradient.double().unsqueeze(1)
        messages = chain.backward()
        tags = chain.marginals(messages) * (outer * chain.mask).unsqueeze(2)
        leaving = chain.states[:-1] * (outer * chain.real[1:])
        arriving = chain.weights[1:] * messages[1:] / chain.totals[1:]
        moves = chain.step * (leaving.flatten(0, 1).t() @ arriving.flatten(0, 1))
        final = (outer * chain.states[-1] * chain.end / chain.ending).sum(0)
        d_emissions, d_start, d_moves, d_end = (x.to(ctx.dtype) for x in (tags, tags[:, 0].sum(0), moves, final))
        return d_emissions, d_start, d_moves, d_end, None


def bio_tags(types: tuple[str, ...]) -> tuple[str, ...]:
    """`O`, then `B-` and `I-` of each type: the tag set of a path, `2 * len(types) + 1` names."""
    return ("O", *(f"{prefix}-{name}" for name in types for prefix in "BI"))


def bio_legal_moves(num_types: int) -> Tensor:
    """Boolean `(T + 2, T + 2)` of legal moves between `bio_tags`; the last two indices are the start and the end.

    `I-x` may follow only `B-x` or `I-x`; everything else is free.
    """
    num_tags = 2 * num_types + 1
    legal = torch.ones(num_tags + 2, num_tags + 2, dtype=torch.bool)
    inside = torch.arange(2, num_tags, 2)
    legal[:, inside] = False
    legal[inside, inside] = True
    legal[inside - 1, inside] = True
    return legal
