"""Keeps a warning of others off the terminal."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_checkpointing() -> Iterator[None]:
    """Without a warning about code of others: peft and trl read a name that transformers has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield
