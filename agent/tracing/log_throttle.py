"""Keeps an unreachable address from filling the log."""

import logging
import time

_BETWEEN_S = 60.0


class _OnceInAWhile(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._last = -_BETWEEN_S

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        message = record.getMessage()
        if "compression is not enabled" in message or time.monotonic() - self._last < _BETWEEN_S:
            return False
        self._last = time.monotonic()
        record.msg, record.args = f"a trace could not be sent; posts continue: {message[:300]}", ()
        return True


_FILTER = _OnceInAWhile()


def throttle(*loggers: str) -> None:
    """Pass one warning or error per minute, over all these loggers together."""
    for name in loggers:
        logging.getLogger(name).addFilter(_FILTER)
