"""What questions to language models cost while somebody counts: attempts that were answered, and their tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Usage:
    """Answers of a server, those that a cache gave left out; `unmetered` ones came without their tokens."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unmetered: int = 0


_COUNTER: ContextVar[Usage | None] = ContextVar("spent", default=None)


@contextmanager
def count_usage() -> Iterator[Usage]:
    """Counts the answers to what is asked within the block, also in threads that run in a copy of its context."""
    spent = Usage()
    token = _COUNTER.set(spent)
    try:
        yield spent
    finally:
        _COUNTER.reset(token)


def record_usage(prompt_tokens: int | None, completion_tokens: int | None) -> None:
    """One answer came, used or not."""
    spent = _COUNTER.get()
    if spent is None:
        return
    spent.answers += 1
    spent.prompt_tokens += prompt_tokens or 0
    spent.completion_tokens += completion_tokens or 0
    spent.unmetered += prompt_tokens is None or completion_tokens is None
