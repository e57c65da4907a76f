"""The application: routes, access checks, bounds, and background tasks."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import Scope

from namepin.agent.checkpointer import data_folder
from namepin.agent.config.settings import Settings
from namepin.agent.server import rest
from namepin.agent.server import review_api as review_routes
from namepin.agent.server.access import TOKEN_COOKIE, Access, bearer, tokens_from_environment
from namepin.agent.server.bounds import Bounds, Entry, bound_answer
from namepin.agent.server.jobs import Jobs
from namepin.agent.server.problems import problem
from namepin.agent.server.reviews import Reviews
from namepin.agent.server.state import ServerState
from namepin.agent.stores.heat_maps import HeatMaps
from namepin.agent.stores.profile_pool import ProfilePool

_PUBLIC = frozenset({"/api/health", "/api/openapi.json"})
_SMALL = 2**12
"""Largest body in bytes for routes without a token, such as the form that sends a token."""

_SPARE_THREADS = 8
"""Threads for reading and checking input, for jobs' files and for the page."""


def create_app(
    settings: Settings,
    *,
    assignments: Sequence[str] = (),
    tokens: dict[str, str] | None = None,
    folder: Path | None = None,
    host: str = "127.0.0.1",
) -> FastAPI:
    """The server's application.

    Args:
        settings: the server's profile, and its `[serve]` bounds.
        assignments: `--set` flags, for the other offered profiles.
        tokens: owner -> token; None reads NAMEPIN_TOKENS.
        folder: folder of conversations and jobs; None for the user's data folder.
        host: the address to listen on, which is also an accepted host name.

    Raises:
        NamepinError: E340 for unusable tokens.
    """
    serve = settings.serve
    pins = ProfilePool(list(dict.fromkeys([settings.profile, *serve.profiles])), assignments)
    access = Access(tokens_from_environment() if tokens is None else tokens, serve.per_minute)
    folder = folder or data_folder()
    heat = HeatMaps(folder / "heat")
    jobs, reviews = Jobs(folder / "jobs", pins, serve.max_jobs), Reviews(folder, pins, serve.max_reviews, heat)
    state = ServerState(serve, pins, access, jobs, reviews, heat, folder)

    @asynccontextmanager
    async def beside(app: FastAPI) -> AsyncIterator[None]:
        # Tools have separate threads (`Admission`), so this work never queues behind them.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_SPARE_THREADS, "namepin"))
        working = asyncio.create_task(state.jobs.work())
        yield
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        for admission in (*state.admissions.values(), state.jobs.admission):
            admission.close()

    app = FastAPI(
        title="Namepin",
        version=version("namepin"),
        summary="Finds every name of a post, its type, and its place in the picture.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=beside,
    )
    app.state.namepin = state
    rest.register(app)
    app.include_router(review_routes.router)
    _errors_in_one_form(app)
    admit = partial(_admit, access, serve.max_body_mb * 2**20)
    app.add_middleware(Bounds, admit=admit, max_held=serve.max_bodies_mb * 2**20, shared=not access.open)
    # Another site must not reach a loopback server through a name that resolves to 127.0.0.1 (DNS rebinding).
    names = ["localhost", "127.0.0.1", "[::1]", host, *serve.hosts]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(dict.fromkeys(names)))
    return app


def _admit(access: Access, max_bytes: int, scope: Scope) -> Entry:
    """The owner of a request, from its token: in the header for the REST API, in the cookie for the page.

    Raises:
        Denied: the request needs a token and has none.
        TooMany: the token's rate is exceeded.
    """
    path = scope["path"]
    request = Request(scope)
    if path.startswith("/api/") and path not in _PUBLIC:
        owner = access.owner_of(bearer(request.headers.get("authorization")))
        access.count(owner)
        return Entry(owner, max_bytes)
    if scope["method"] in ("GET", "HEAD", "OPTIONS") or path == "/login" or path in _PUBLIC:
        return Entry("", _SMALL)
    return Entry(access.owner_of(request.cookies.get(TOKEN_COOKIE)), max_bytes)


def _errors_in_one_form(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return problem(422, "E103", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return bound_answer(error)
