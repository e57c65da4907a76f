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


def record_usage(prompt_tokens: int | None, completion_tokens: int | None) -> None:
    """Count one answer, used or not."""
    spent = _COUNTER.get()
    if spent is None:
        return
    spent.answers += 1
    spent.prompt_tokens += prompt_tokens or 0
    spent.completion_tokens += completion_tokens or 0
    spent.unmetered += prompt_tokens is None or completion_tokens is None
