"""`namepin profiles`: the shipped profiles, what each is for, and the tools that it has."""

import sys
from itertools import takewhile
from typing import Any

from namepin.agent.cli.options import Json
from namepin.tools.errors import Exit


def profiles(json: Json = False) -> int:
    """List the profiles that ship with Namepin."""
    from namepin.agent.config.layers import profile_names, profile_path
    from namepin.agent.config.settings import load_settings

    rows: list[dict[str, Any]] = []
    for name in profile_names():
        path = profile_path(name)
        comment = takewhile(lambda line: line.startswith("#"), path.read_text("utf-8").splitlines())
        about = " ".join(line.removeprefix("#").strip() for line in comment).partition(". ")[0].rstrip(".")
        settings = load_settings(name, environment={})
        tools = {role: tool.backend for role, tool in settings.tools.items()}
        rows.append({"name": name, "graph": str(settings.graph), "about": about, "tools": tools, "file": str(path)})
    if json:
        from namepin.tools.base import canonical_json

        print(canonical_json(rows))
        return Exit.DONE
    for row in rows:
        print(f"{row['name']}  (graph {row['graph']})")
        print(f"  {row['about']}")
        print(f"  tools: {', '.join(f'{role} {backend}' for role, backend in row['tools'].items())}")
        print(f"  file:  {row['file']}\n")
    print("namepin doctor --profile NAME says what a profile lacks here", file=sys.stderr)
    return Exit.DONE
