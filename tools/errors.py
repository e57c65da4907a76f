"""Errors for users: each has a code, what is wrong, where, how to fix it, and an exit code."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class Exit(IntEnum):
    """Exit codes of the command line (docs/cli.md)."""

    DONE = 0
    SOME_FAILED = 1
    UNUSABLE = 2
    UNREACHABLE = 3
    DIVERGED = 4


def install_command(package: str, *options: str) -> str:
    """The shell command that adds a package, or `namepin[EXTRA]`, to the environment that runs now.

    It names the interpreter, because a shell's `pip` may belong to another environment. Namepin is installed in this
    environment, so pip reads the extra's packages from it and does not look for Namepin in a registry.
    """
    python = Path(sys.executable)
    with suppress(ValueError, OSError):  # outside the working directory, or that directory is gone
        python = python.relative_to(Path.cwd())
    words = [shlex.quote(str(python)), "-m", "pip", "install", *options, f"'{package}'"]
    return " ".join(words)


class NamepinError(Exception):
    """An error that the user can fix. It is shown as one line, without a traceback.

    Args:
        code: `E` and three digits; docs/errors.md explains each.
        what: what is wrong, with the value.
        where: the file, line, flag or setting with the error.
        mend: how to fix it.
        exit_code: the process's exit code when nothing catches the error.
    """

    def __init__(
        self, code: str, what: str, *, where: str = "", mend: str = "", exit_code: Exit = Exit.UNUSABLE
    ) -> None:
        self.code, self.what, self.where, self.mend, self.exit_code = code, what, where, mend, exit_code
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all fields, so that the error is complete in another process."""
        return _again, (type(self), dict(self.__dict__))

    def __str__(self) -> str:
        """One line: code, what is wrong, where, how to fix it."""
        line = f"{self.code}: {self.what}"
        if self.where:
            line += f" ({self.where})"
        if self.mend:
            line += f"; {self.mend}"
        return " ".join(line.split())


def _again(kind: type[NamepinError], attributes: dict[str, Any]) -> NamepinError:
    error = kind.__new__(kind)
    error.__dict__.update(attributes)
    Exception.__init__(error, str(error))
    return error


def coded_error(error: Exception) -> NamepinError:
    """The error itself, or W100 with type and message for an error without a code. The result can be pickled."""
    return error if isinstance(error, NamepinError) else NamepinError("W100", f"{type(error).__name__}: {error}")


class ToolUnavailable(NamepinError):
    """A tool cannot serve this call: its server is down, timed out, or gave two unusable answers.

    The graph turns the error into a warning and a `degraded` post. It never ends the run.
    """

    def __init__(self, tool: str, what: str, *, mend: str = "") -> None:
        self.tool = tool
        super().__init__("E300", what, where=tool, mend=mend, exit_code=Exit.UNREACHABLE)


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def first_problem(error: "ValidationError") -> str:
    """The first error of a validation, as `FIELD.INNER: MESSAGE`."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {_sentence(first['msg'])}" if field else _sentence(first["msg"])


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


@contextmanager
def in_one_line() -> Iterator[None]:
    """For scripts: a `NamepinError` ends the process with one line on stderr and its exit code."""
    try:
        yield
    except NamepinError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
