"""`namepin doctor`: available parts, missing parts, and the commands that add them."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from namepin.agent.cli.options import Json, Profile, Set
from namepin.tools.errors import Exit

if TYPE_CHECKING:
    from namepin.agent.workflows.doctor import Check

_STYLES = {"ok": "green", "off": "dim", "missing": "bold red"}


def doctor(profile: Profile = None, set_: Set = None, json: Json = False) -> int:
    """Check that all packages, weights and servers of a profile are available."""
    from namepin.agent.cli.progress import doing
    from namepin.agent.config.settings import load_settings

    settings = load_settings(profile, assignments=set_ or ())
    with doing(f"building the tools of profile {settings.profile}"):
        from namepin.agent.workflows.doctor import examine

        checks = list(examine(settings))
    missing = [check for check in checks if check.state == "missing"]
    if json:
        from namepin.tools.base import canonical_json

        report = {"profile": settings.profile, "ok": not missing, "checks": [c.model_dump() for c in checks]}
        print(canonical_json(report))
        return Exit.UNREACHABLE if missing else Exit.DONE

    if sys.stdout.isatty():
        _print_table(checks)
    else:
        _print_lines(checks)
    lacking = ", ".join(check.name for check in missing)
    print(f"profile {settings.profile} " + (f"lacks: {lacking}" if missing else "is ready"))
    return Exit.UNREACHABLE if missing else Exit.DONE


def _print_lines(checks: "Sequence[Check]") -> None:
    """One line per check, and one per command, so that a command can be copied out of a file or a pipe."""
    for check in checks:
        size = "" if check.megabytes is None else f"{check.megabytes:.1f} MB, "
        print(f"{check.name:10} {check.state:8} {size}{check.detail}")
        if check.mend:
            print(f"{'':19} {_verb(check)}: {check.mend}")


def _verb(check: "Check") -> str:
    return "fix" if check.state == "missing" else "turn on"


def _print_table(checks: "Sequence[Check]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("what", "state", "MB", "detail"):
        table.add_column(name, overflow="fold", justify="right" if name == "MB" else "left")
    for check in checks:
        size = "" if check.megabytes is None else f"{check.megabytes:.1f}"
        detail = Text(check.detail)
        if check.mend:
            detail.append(f"\n{_verb(check)}: {check.mend}", style="cyan")
        table.add_row(check.name, Text(check.state, style=_STYLES[check.state]), size, detail)
    console.print(table)
