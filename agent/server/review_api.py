"""Reviews over REST: close decisions are returned as questions, and the owner's answers resume the run."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask

from namepin.agent.posts import make_post
from namepin.agent.server.bodies import JsonRoute
from namepin.agent.server.rest import ERRORS, Deleted, ExtractBody, Owner, picture_of_body
from namepin.agent.server.reviews import Reviewed, Reviews
from namepin.agent.server.state import ServerState

router = APIRouter(prefix="/api", responses=ERRORS, route_class=JsonRoute)
ReviewId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class AnswersBody(BaseModel):
    """For each question's key one of its choices; questions about a place also accept true and false."""

    model_config = ConfigDict(extra="forbid")
    answers: Annotated[dict[str, bool | Annotated[str, Field(max_length=100)]], Field(max_length=2000)]


class Saved(BaseModel):
    """The files with a review's answers, relative to the owner's rows, and the number of posts in the rows."""

    files: tuple[str, ...]
    posts: int


def _state(request: Request) -> ServerState:
    state: ServerState = request.app.state.namepin
    return state


def _reviews(request: Request) -> Reviews:
    return _state(request).reviews


@router.post("/reviews", status_code=201)
async def begin(body: ExtractBody, request: Request, owner: Owner) -> Reviewed:
    """Read a post as `extract` does, and stop where the entropy or the match score is close to its threshold."""
    state = _state(request)
    profile = body.profile or state.pins.profiles[0]
    await asyncio.to_thread(state.pins.get, profile)
    row = body.model_dump(include={"id", "text", "tokens"}, exclude_none=True)
    make_post(row)
    picture = await asyncio.to_thread(picture_of_body, body, state.settings.urls)
    async with state.admission(profile).turn(owner, request.is_disconnected):
        return await state.reviews.begin(owner, row, picture, profile, body.gamma)


@router.get("/reviews")
async def reviews(request: Request, owner: Owner) -> list[Reviewed]:
    """List your reviews."""
    return _reviews(request).list(owner)


@router.get("/reviews/{review_id}")
async def review(review_id: ReviewId, request: Request, owner: Owner) -> Reviewed:
    """Return one of your reviews."""
    found = _reviews(request).get(owner, review_id)
    if found is None:
        raise _missing()
    return found


@router.post("/reviews/{review_id}/answers")
async def answer(review_id: ReviewId, body: AnswersBody, request: Request, owner: Owner) -> Reviewed:
    """Answer all questions of a review. Its run continues to the next questions or to the extraction."""
    state = _state(request)
    waiting = state.reviews.get(owner, review_id)
    if waiting is None:
        raise _missing()
    async with state.admission(waiting.profile).turn(owner, request.is_disconnected):
        found = await state.reviews.answer(owner, review_id, body.answers)
    if found is None:
        raise _missing()
    return found


@router.post("/reviews/{review_id}/row")
async def save(review_id: ReviewId, request: Request, owner: Owner) -> Saved:
    """Save the answers of a finished review as training rows."""
    files = await asyncio.to_thread(_reviews(request).save, owner, review_id)
    if files is None:
        raise _missing()
    return Saved(files=files, posts=await asyncio.to_thread(_reviews(request).rows_kept, owner))


@router.delete("/reviews/{review_id}")
async def delete(review_id: ReviewId, request: Request, owner: Owner) -> Deleted:
    """Remove a review; rows saved from it stay."""
    if not await _reviews(request).delete(owner, review_id):
        raise _missing()
    return Deleted(deleted=review_id)


@router.get("/rows", response_class=FileResponse)
async def rows(request: Request, owner: Owner) -> FileResponse:
    """Return your training rows as a ZIP file of data for `namepin finetune`."""
    return await rows_file(_reviews(request), owner)


@router.delete("/rows")
async def delete_rows(request: Request, owner: Owner) -> Deleted:
    """Remove your training rows."""
    if not await asyncio.to_thread(_reviews(request).delete_rows, owner):
        raise HTTPException(404, "you have no rows")
    return Deleted(deleted="rows")


async def rows_file(reviews: Reviews, owner: str) -> FileResponse:
    """An owner's rows as an attachment.

    Raises:
        HTTPException: 404 if there are none.
    """
    path = await asyncio.to_thread(reviews.rows, owner)
    if path is None:
        raise HTTPException(404, "you have no rows")
    return FileResponse(
        path, media_type="application/zip", filename="rows.zip", background=BackgroundTask(path.unlink, missing_ok=True)
    )


def _missing() -> HTTPException:
    return HTTPException(404, "you have no such review")
