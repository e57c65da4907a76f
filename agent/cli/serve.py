"""`namepin serve`: the page for people, and the REST API for applications."""

from typing import Annotated

import typer

from namepin.agent.cli.checks import require_packages
from namepin.agent.cli.options import Profile, Set
from namepin.agent.cli.progress import say_loading
from namepin.agent.server.listen import check_address, listen


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on; beyond this machine only with tokens.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 7860,
    profile: Profile = None,
    set_: Set = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="The page at /, or only REST.")] = True,
) -> int:
    """Serve the web page for people and the REST API for applications."""
    require_packages("serve", "fastapi", "uvicorn", extra="serve")
    if page:
        require_packages("the page", "gradio", extra="serve", otherwise=", or --no-page")

    from namepin.agent.config.settings import load_settings
    from namepin.agent.server.access import check_host, tokens_from_environment

    settings = load_settings(profile, assignments=set_ or ())
    tokens = tokens_from_environment()
    check_host(host, tokens)
    check_address(host, port)
    say_loading(f"the server and the tools of profile {settings.profile}")

    from namepin.agent.server.app import create_app

    app = create_app(settings, assignments=set_ or (), tokens=tokens, host=host)
    if page:
        from namepin.agent.web.page import add_page

        add_page(app, settings)
    app.state.namepin.pins.get(settings.profile).load()  # reports a tool that cannot start, and warms up the others
    print(
        f"Namepin serves {settings.profile} at http://{host}:{port} (REST: /api/openapi.json); Ctrl-C stops", flush=True
    )
    return listen(app, host, port)
