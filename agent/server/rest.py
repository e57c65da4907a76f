"""The REST API: `extract`, batch jobs, health; its OpenAPI is at `/api/openapi.json`."""

import asyncio
import pathlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, FailFast, Field

from namepin.agent.api import Namepin
from namepin.agent.posts import Ready, make_post
from namepin.agent.server.access import ClientGone, Denied, TooMany
from namepin.agent.server.admission import read_in_turn
from namepin.agent.server.bodies import JsonRoute
from namepin.agent.server.bounds import OWNER
from namepin.agent.server.jobs import Job, JobPost
from namepin.agent.server.problems import Problem, problem, too_many, unauthorized
from namepin.agent.server.state import ServerState
from namepin.agent.stores.pictures import decode_base64
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.images.remote import fetch
from namepin.tools.types import Extraction


class PostBody(BaseModel):
    """A post: `text` or `tokens`, and the picture as base64 or, if the server allows it, by address."""

    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, Field(min_length=1, max_length=500)] = "post"
    text: Annotated[str | None, Field(max_length=20_000)] = None
    tokens: Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]] | None, Field(max_length=5000)] = None
    image: Annotated[str | None, Field(description="The picture's file, base64.")] = None
    image_url: Annotated[str | None, Field(max_length=2000, description="https only, and off by default.")] = None


class ExtractBody(PostBody):
    """A post, and optionally a profile and another threshold of the entropy gate."""

    profile: Annotated[str | None, Field(max_length=100)] = None
    gamma: Annotated[float | None, Field(ge=0, le=10, allow_inf_nan=False)] = None


class BatchBody(BaseModel):
    """Posts of a job; ids must differ."""

    model_config = ConfigDict(extra="forbid")
    posts: Annotated[list[PostBody], Field(min_length=1), FailFast()]
    profile: Annotated[str | None, Field(max_length=100)] = None


class Health(BaseModel):
    """Whether the server accepts posts, and its load."""

    status: Literal["ok"] = "ok"
    profiles: list[str]
    running: int
    waiting: int
    asking: int
    """Number of posts that call, or have called, language models."""
    set_aside: int
    """Number of unusable files and folders among the jobs; the log names them and the reasons."""


class Deleted(BaseModel):
    """Confirms the removal."""

    deleted: str


ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": what}
    for code, what in {
        400: "unusable input",
        401: "the token is missing or unknown",
        404: "it does not exist, or is not yours",
        408: "the body did not arrive in time",
        413: "too large",
        422: "the request does not have the documented form",
        429: "the rate is exceeded, or the server is busy: see Retry-After",
        503: "a required tool or server cannot be reached",
    }.items()
}
router = APIRouter(prefix="/api", responses=ERRORS, route_class=JsonRoute)


async def owner_of(request: Request) -> str:
    """The owner of the request's token, as found by the access check."""
    return str(request.scope[OWNER])


Owner = Annotated[str, Depends(owner_of)]
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


def _state(request: Request) -> ServerState:
    state: ServerState = request.app.state.namepin
    return state


@router.get("/health")
async def health(request: Request) -> Health:
    """Report that the server is alive, and its load. Needs no token."""
    state = _state(request)
    turns = list(state.admissions.values())
    return Health(
        profiles=list(state.pins.profiles),
        running=sum(turn.running for turn in turns),
        waiting=sum(turn.waiting for turn in turns),
        asking=sum(turn.asking for turn in turns),
        set_aside=len(state.jobs.set_aside),
    )


@router.post("/extract")
async def extract(body: ExtractBody, request: Request, owner: Owner) -> Extraction:
    """Find the names of one post. The `Extraction` is the same as in all other interfaces."""
    state = _state(request)
    profile = body.profile or state.pins.profiles[0]
    overrides = {} if body.gamma is None else {"gate": {"gamma": body.gamma}}
    pin = await asyncio.to_thread(state.pins.get, profile, overrides)
    loop = asyncio.get_running_loop()
    async with state.admission(profile).turn(owner, request.is_disconnected) as turn:
        # Downloading a picture takes another server's time, so the post needs no turn for it.
        async with turn.away() if body.image_url is not None else nullcontext(turn.executor) as threads:
            picture = await loop.run_in_executor(threads, picture_of_body, body, state.settings.urls)
        await loop.run_in_executor(turn.executor, lambda: pin.calls)  # the first post builds the tools
        read = partial(_ready, pin, body, picture)
        ready = await read_in_turn(turn, picture, pin.settings.images.max_pixels, read)
        return await pin.aextract(ready)


@router.post("/batch", status_code=202)
async def batch(body: BatchBody, request: Request, owner: Owner) -> Job:
    """Accept posts as a job, which survives a restart of the server."""
    state = _state(request)
    if len(body.posts) > state.settings.max_job_posts:
        raise NamepinError("E108", f"a job has at most {state.settings.max_job_posts} posts")
    profile = body.profile or state.pins.profiles[0]
    await asyncio.to_thread(state.pins.get, profile)
    posts = await asyncio.to_thread(lambda: [_job_post(post, state.settings.urls) for post in body.posts])
    return await asyncio.to_thread(state.jobs.accept, owner, profile, posts)


@router.get("/jobs")
async def jobs(request: Request, owner: Owner) -> list[Job]:
    """List your jobs."""
    return _state(request).jobs.list(owner)


@router.get("/jobs/{job_id}")
async def job(job_id: JobId, request: Request, owner: Owner) -> Job:
    """Return one of your jobs."""
    found = _state(request).jobs.get(owner, job_id)
    if found is None:
        raise _missing()
    return found


@router.get("/jobs/{job_id}/results", response_class=StreamingResponse)
async def results(job_id: JobId, request: Request, owner: Owner) -> StreamingResponse:
    """Return the results so far, one `Extraction` per line, in the order of the posts."""
    path = _state(request).jobs.results(owner, job_id)
    if path is None:
        raise _missing()
    return growing_file(path, f"{job_id}.jsonl")


def growing_file(path: pathlib.Path, name: str, headers: Mapping[str, str] | None = None) -> StreamingResponse:
    """A job's results as a download, without a declared length, because the file may grow meanwhile."""

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            yield from iter(lambda: file.read(2**16), b"")

    disposition = {"content-disposition": f'attachment; filename="{name}"', **(headers or {})}
    return StreamingResponse(chunks(), media_type="application/x-ndjson", headers=disposition)


@router.delete("/jobs/{job_id}")
async def delete(job_id: JobId, request: Request, owner: Owner) -> Deleted:
    """Stop a job and remove all its data."""
    if not await asyncio.to_thread(_state(request).jobs.delete, owner, job_id):
        raise _missing()
    return Deleted(deleted=job_id)


def _missing() -> HTTPException:
    return HTTPException(404, "you have no such job")


def _ready(pin: Namepin, body: PostBody, picture: bytes | None) -> Ready:
    row = body.model_dump(include={"id", "text", "tokens"}, exclude_none=True)
    return pin.ready(make_post(row), picture)


def _job_post(body: PostBody, urls: bool) -> JobPost:
    row = body.model_dump(include={"id", "text", "tokens"}, exclude_none=True)
    make_post(row)
    return JobPost(row=row, picture=picture_of_body(body, urls))


def picture_of_body(body: PostBody, urls: bool) -> bytes | None:
    """The bytes of a post's picture.

    Raises:
        NamepinError: E105 for two pictures, E123 for an invalid one, E126 and E127 for an address.
    """
    if body.image is not None and body.image_url is not None:
        raise NamepinError("E105", "give either image or image_url", mend="leave one of them out")
    if body.image_url is not None:
        if not urls:
            raise NamepinError("E126", "this server does not read addresses", mend="send the picture itself, as base64")
        return fetch(body.image_url)
    return None if body.image is None else decode_base64(body.image)


def register(app: FastAPI) -> None:
    """Add the routes and the error responses."""
    app.include_router(router)

    @app.exception_handler(NamepinError)
    async def coded(request: Request, error: NamepinError) -> JSONResponse:
        status = 503 if error.exit_code == Exit.UNREACHABLE else 413 if error.code in ("E125", "E108") else 400
        return problem(status, error.code, error.what, error.mend)

    @app.exception_handler(Denied)
    async def nobody(request: Request, error: Denied) -> JSONResponse:
        return unauthorized()

    @app.exception_handler(ClientGone)
    async def nobody_reads(request: Request, error: ClientGone) -> Response:
        return Response(status_code=499)  # nginx's code for it; nothing arrives anywhere

    @app.exception_handler(TooMany)
    async def busy(request: Request, error: TooMany) -> JSONResponse:
        return too_many(error)
