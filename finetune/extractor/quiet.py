"""Keeps warnings about the code of others off the terminal."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_checkpointing() -> Iterator[None]:
    """Without the warnings about code of others: peft and trl use names that transformers has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`(is_)?gradient_checkpointing", category=FutureWarning)
        yield
