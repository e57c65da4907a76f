"""Counts the usage of language models: answered attempts, and their tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Usage:
    """Answers of servers, without cached ones. `unmetered` counts answers without reported tokens."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0

    def add(self, other: "Usage", part: int = 0, parts: int = 1) -> None:
        """Add another's numbers, or one of `parts` equal parts of them; part 0 gets the remainders."""
        for name, value in vars(other).items():
            share, rest = divmod(value, parts)
            setattr(self, name, getattr(self, name) + share + rest * (part == 0))


@dataclass(frozen=True)
class Prices:
    """The prices of a million tokens, and their currency."""

    million_prompt_tokens: float = 0.0
    million_completion_tokens: float = 0.0
    currency: str = "USD"

    def of(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """The price of tokens; None where no price is known."""
        if not self.million_prompt_tokens and not self.million_completion_tokens:
            return None
        spent = prompt_tokens * self.million_prompt_tokens + completion_tokens * self.million_completion_tokens
        return spent / 1e6


_COUNTER: ContextVar[Usage | None] = ContextVar("spent", default=None)


@contextmanager
def count_usage() -> Iterator[Usage]:
    """Count the answers within the block, also in threads that run in a copy of its context."""
    spent = Usage()
    token = _COUNTER.set(spent)
    try:
        yield spent
    finally:
        _COUNTER.reset(token)


def current_usage() -> Usage | None:
    """The counter of the running block."""
    return _COUNTER.get()


def record_usage(prompt_tokens: int | None, completion_tokens: int | None) -> None:
    """Count one answer, used or not."""
    spent = _COUNTER.get()
    if spent is None:
        return
    spent.answers += 1
    spent.prompt_tokens += prompt_tokens or 0
    spent.completion_tokens += completion_tokens or 0
    spent.unmetered += prompt_tokens is None or completion_tokens is None
