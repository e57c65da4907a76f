"""`namepin mcp`: the tools for other agents."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from namepin.agent.cli.checks import require_packages
from namepin.agent.cli.options import Profile, Set
from namepin.agent.cli.progress import say_loading
from namepin.agent.server.listen import check_address, listen
from namepin.tools.errors import Exit, NamepinError


def mcp(
    http: Annotated[bool, typer.Option("--http", help="Serve over HTTP instead of standard input and output.")] = False,
    host: Annotated[str, typer.Option("--host", help="With --http: address; beyond this machine only with tokens.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="With --http: port to listen on.")] = 7861,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Folder of pictures that a call may name by path.")
    ] = None,
    profile: Profile = None,
    set_: Set = None,
) -> int:
    """Offer the tools (extract, ground, segment, explain, compare) to agents by the Model Context Protocol."""
    require_packages("mcp", "mcp", "uvicorn", extra="serve")

    from namepin.agent.config.settings import load_settings
    from namepin.agent.server.access import check_host, tokens_from_environment

    settings = load_settings(profile, assignments=set_ or ())
    if images is not None and not images.is_dir():
        raise NamepinError("E128", "not a folder", where=str(images), mend="give --images a folder of pictures")
    tokens = tokens_from_environment() if http else {}
    if http:
        check_host(host, tokens)
        check_address(host, port)
    say_loading(f"the server and the tools of profile {settings.profile}" if http else "the server")

    from namepin.agent.checkpointer import data_folder
    from namepin.agent.mcp.owners import McpSessions
    from namepin.agent.mcp.server import build_server, local

    sessions = McpSessions(settings, set_ or (), data_folder() / "mcp", images)
    if not http:
        if sys.stdin.isatty():
            print("Namepin speaks MCP on stdio; an agent starts it. --http serves HTTP; Ctrl-C stops", file=sys.stderr)
        build_server(sessions, local).run("stdio")
        return Exit.DONE

    from namepin.agent.mcp.app import create_mcp_app
    from namepin.agent.server.access import Access

    app = create_mcp_app(sessions, Access(tokens, settings.serve.per_minute), settings.serve, host)
    sessions.pins.get(settings.profile).calls  # noqa: B018  # reports a tool that cannot start
    print(f"Namepin serves {settings.profile} by MCP at http://{host}:{port}/mcp; Ctrl-C stops", file=sys.stderr)
    return listen(app, host, port)
