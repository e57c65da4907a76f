"""`namepin serve`: the page for people, and the REST surface for applications."""

from typing import Annotated

import typer

from namepin.agent.cli.options import Profile, Set
from namepin.agent.server.listen import listen
from namepin.tools.errors import Exit, NamepinError


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on; beyond this machine only with tokens.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 7860,
    profile: Profile = None,
    set_: Set = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="The page at /, or REST alone.")] = True,
) -> int:
    """Serve the web page, and the REST surface for applications."""
    try:
        import fastapi  # noqa: F401  # to say what is missing before anything else is loaded
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        what = f"serve needs the package {error.name!r}"
        raise NamepinError("E332", what, mend="pip install 'namepin[serve]'", exit_code=Exit.UNREACHABLE) from error

    from namepin.agent.config.settings import load_settings
    from namepin.agent.server.access import check_host, tokens_from_environment
    from namepin.agent.server.app import create_app

    settings = load_settings(profile, assignments=set_ or ())
    tokens = tokens_from_environment()
    check_host(host, tokens)
    app = create_app(settings, assignments=set_ or (), tokens=tokens, host=host)
    if page:
        try:
            from namepin.agent.web.page import add_page
        except ModuleNotFoundError as error:
            what = f"the page needs the package {error.name!r}"
            mend = "pip install 'namepin[serve]', or --no-page"
            raise NamepinError("E332", what, mend=mend, exit_code=Exit.UNREACHABLE) from error
        add_page(app, settings)
    app.state.namepin.pins.get(settings.profile).calls  # noqa: B018  # a tool that cannot start is told here
    print(
        f"Namepin serves {settings.profile} at http://{host}:{port} (REST: /api/openapi.json); Ctrl-C stops", flush=True
    )
    return listen(app, host, port)
