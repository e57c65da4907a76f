"""The `namepin` command: its subcommands and the handling of failures."""

import atexit
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Annotated

import typer
from typer import Abort, Typer, TyperException

from namepin.agent.cli import data, finetune
from namepin.agent.cli import eval as evaluation
from namepin.agent.cli.ablate import ablate
from namepin.agent.cli.batch import batch
from namepin.agent.cli.bench import bench
from namepin.agent.cli.chat import chat
from namepin.agent.cli.doctor import doctor
from namepin.agent.cli.extract import extract
from namepin.agent.cli.mcp import mcp
from namepin.agent.cli.profiles import profiles
from namepin.agent.cli.pull import pull
from namepin.agent.cli.replay import replay
from namepin.agent.cli.serve import serve
from namepin.agent.cli.sweep import sweep
from namepin.agent.cli.trace import trace
from namepin.tools.deprecations import hide_foreign_deprecations
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.llm.permission import COMPUTING, THREADS

INTERRUPTED, BUG = 130, 70
"""Exit codes besides `tools.errors.Exit`: the shell's code for Ctrl-C, and EX_SOFTWARE of sysexits for a bug."""

Version = Annotated[bool, typer.Option("--version", help="Show the version and stop.")]

app = Typer(
    name="namepin",
    help="Finds every name in a post, its type, and its place in the post's picture.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: tuple[tuple[Callable[..., int], str], ...] = (
    (extract, 'namepin extract "Angelina Jolie slams Donald Trump" --image photo.jpg --out results/'),
    (batch, "namepin batch posts.jsonl --out out/night"),
    (chat, "namepin chat --image photo.jpg"),
    (serve, "namepin serve --port 7860"),
    (mcp, "namepin mcp --images pictures/"),
    (replay, "namepin replay out/cassette --set match.threshold=0.7"),
    (trace, "namepin trace out/cassette --out trace.html"),
    (doctor, "namepin doctor --profile gem"),
    (profiles, "namepin profiles"),
    (pull, "namepin pull laptop --dry-run"),
    (bench, "namepin bench tagger graph"),
    (ablate, "namepin ablate --list"),
    (sweep, "namepin sweep --over gate.gamma=0.1,0.2,0.4 --dataset fmnerg --root DATA/fmnerg"),
)
for command, example in COMMANDS:
    app.command(epilog=f"Example: {example}")(command)
evaluation.register(app)
data.register(app)
app.add_typer(finetune.app)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context, version: Version = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"namepin {installed('namepin')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; every failure is one line on stderr."""
    try:
        result = app(args=arguments, prog_name="namepin", standalone_mode=False)
        sys.stdout.flush()
        if result == INTERRUPTED:  # Typer's answer to Ctrl-C
            raise KeyboardInterrupt
        return int(result or 0)
    except NamepinError as error:
        _say(str(error))
        return int(error.exit_code)
    except TyperException as error:
        if not error.format_message():
            return 0  # a group without a command: its help has been printed
        _say(_usage(error))
        return 2
    except (KeyboardInterrupt, Abort):
        _say("stopped")
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader (`| head`) closed the pipe; Typer and rich turn that into SystemExit. Keep the interpreter from
        # flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("NAMEPIN_DEBUG"):
            raise
        _say(f"a bug in Namepin: {type(error).__name__}: {error}; NAMEPIN_DEBUG=1 shows where")
        return BUG


def run() -> None:
    """The console script."""
    hide_foreign_deprecations()
    code = main()
    busy = any(thread.name.startswith((THREADS, COMPUTING)) for thread in threading.enumerate())
    failed = code not in (Exit.DONE, Exit.SOME_FAILED, Exit.DIVERGED)
    if busy or (failed and code != INTERRUPTED):
        atexit._run_exitfuncs()  # send the traces
    if busy or failed:
        # A tool's thread may still compute or wait for a server. A normal exit would wait for the thread, or abort the
        # process if the thread is in C++ code.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _say(message: str) -> None:
    """Print one line on stderr, with any characters and in any terminal encoding."""
    line = " ".join(f"error: {message}".split())
    encoding = sys.stderr.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)


def _usage(error: TyperException) -> str:
    """The parser's message with the nearest valid flag or command, and the command that shows help."""
    near = getattr(error, "possibilities", None)
    message = error.format_message()
    if near:
        message = f"{error.message} (did you mean {near[0]}?)"
    elif command := re.fullmatch(r"(No such command .*)\. Did you mean '(.+?)'.*\?", message):
        message = f"{command[1]} (did you mean {command[2]}?)"
    elif choice := re.search(r"'([^']*)' is not one of (.+)$", message.rstrip(".")):
        nearest = get_close_matches(choice[1], re.findall(r"'([^']+)'", choice[2]), n=1)
        message += f" (did you mean {nearest[0]}?)" if nearest else ""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "namepin"
    return f"E100: {message.replace('Value error, ', '').rstrip('.')}; see {path} --help"
