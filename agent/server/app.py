"""The application: routes, doors, bounds, and what runs beside the requests."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from namepin.agent.checkpointer import data_folder
from namepin.agent.config.settings import Settings
from namepin.agent.server import rest
from namepin.agent.server import review_api as review_routes
from namepin.agent.server.access import Access, TooMany, tokens_from_environment
from namepin.agent.server.jobs import Jobs
from namepin.agent.server.reviews import Reviews
from namepin.agent.server.state import ServerState
from namepin.agent.stores.heat_maps import HeatMaps
from namepin.agent.stores.profile_pool import ProfilePool

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

_BUSY = "the server holds as many requests as it may"

_SPARE_THREADS = 8
"""For reading and checking what comes in, for jobs' files and for the page."""


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
        settings: the profile that serves, and its `[serve]` bounds.
        assignments: `--set` flags, for the other profiles on offer.
        tokens: owner -> token; None reads NAMEPIN_TOKENS.
        folder: where conversations and jobs are kept; None is the user's data folder.
        host: the address it listens on, one of the names it answers to.

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
        # Tools compute and wait in threads of their own (`Admission`): nothing here stands behind them.
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
        summary="ProfilePool every name of a post to what it is, and to where it is in the picture.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=beside,
    )
    app.state.namepin = state
    rest.register(app)
    app.include_router(review_routes.router)
    _errors_in_one_form(app)
    app.add_middleware(Bounds, max_bytes=serve.max_body_mb * 2**20, max_held=serve.max_bodies_mb * 2**20)
    # A page of another site must not reach a server on loopback by a name that it makes resolve to 127.0.0.1.
    names = ["localhost", "127.0.0.1", "[::1]", "testserver", host, *serve.hosts]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(dict.fromkeys(names)))
    return app


def _errors_in_one_form(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return rest.problem(422, "E103", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = {413: "E108", 429: "E343"}.get(error.status_code, f"HTTP{error.status_code}")
        answer = rest.problem(error.status_code, code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer


class Bounds:
    """Refuses other sites' pages and what is too large, announced or not; puts safety headers on answers.

    Args:
        app: the application.
        max_bytes: of one request's body.
        max_held: of the bodies of all requests under way, those that wait for a turn included. One that is alone is
            taken whatever its size.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_held: int) -> None:
        self.app, self.max_bytes, self.max_held = app, max_bytes, max_held
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            came = len(message.get("body", b""))
            seen, self.held = seen + came, self.held + came
            # FastAPI lets an HTTPException through while it reads a body.
            if seen > self.max_bytes:
                raise HTTPException(413, self._what)
            if came and self.held > max(self.max_held, seen):
                raise HTTPException(429, _BUSY, {"retry-after": "1"})
            return message

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        try:
            if refusal := self._refusal(scope):
                await refusal(scope, receive, headed)
            else:
                await self.app(scope, bounded, headed)
        finally:
            self.held -= seen

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = dict(scope["headers"])
        changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and headers.get(b"sec-fetch-site") == b"cross-site":
            return rest.problem(403, "E342", "another site's page may not send requests here")
        said = headers.get(b"content-length", b"0")
        announced = int(said) if said.isdigit() else 0
        if announced > self.max_bytes:
            return rest.problem(413, "E108", self._what, "send less at once")
        if self.held and announced and self.held + announced > self.max_held:
            return rest.too_many(TooMany(_BUSY, 1))
        return None

    @property
    def _what(self) -> str:
        return f"the request has more than {self.max_bytes / 2**20:g} MiB"
