"""The page's routes: sign-in, uploads, pictures, downloads, batch files. They are not part of the REST API."""

import asyncio
import io
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from PIL import Image
from pydantic import ValidationError

from namepin.agent.posts import make_post
from namepin.agent.render.html import heat_layer, page, shrink
from namepin.agent.render.picture import annotate
from namepin.agent.render.view import PostView, printable
from namepin.agent.server.access import TOKEN_COOKIE, Denied
from namepin.agent.server.bodies import MAX_PARTS, JsonRoute, is_intricate
from namepin.agent.server.jobs import Job, JobPost
from namepin.agent.server.rest import PostBody, growing_file, picture_of_body
from namepin.agent.server.review_api import AnswersBody, rows_file
from namepin.agent.server.state import ServerState
from namepin.agent.web import fragments
from namepin.agent.web import reviews as reviewing
from namepin.agent.web.conversation import PageConversation
from namepin.agent.web.gradio_guard import POLICY, cookie
from namepin.agent.web.visitors import SESSION_COOKIE, Visitor, Visitors, new_session
from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import Line, read_lines

router = APIRouter(include_in_schema=False, route_class=JsonRoute)
_SIGNED = r"^[0-9a-f]{64}\.[0-9a-f]{32}$"
_PRIVATE = {"cache-control": "private, no-store"}


async def visitor_of(request: Request) -> Visitor:
    """The visitor behind the request's cookies."""
    visitors: Visitors = request.app.state.visitors
    return visitors.require_known(request.cookies)


async def rate_limited_visitor(request: Request) -> Visitor:
    """As `visitor_of`, but the request counts against the owner's rate."""
    visitor = await visitor_of(request)
    request.app.state.namepin.access.count(visitor.owner)
    return visitor


KnownVisitor = Annotated[Visitor, Depends(visitor_of)]
Counted = Annotated[Visitor, Depends(rate_limited_visitor)]
Name = Annotated[str, Path(pattern="^r[0-9a-f]{16}$")]
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


@router.get("/login")
async def login() -> Response:
    """The form that asks for a token."""
    return _login(None)


@router.post("/login")
async def sign_in(request: Request) -> Response:
    """Accept a token and set the cookie."""
    access = request.app.state.namepin.access
    access.count(f"({request.client.host if request.client else ''})")  # no owner's name has brackets
    try:
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
    except ValueError:
        form = {}
    token = form.get("token", [""])[0].strip()
    try:
        access.owner_of(token)
    except Denied:
        return _login("This token is unknown.", 401)
    answer = RedirectResponse("/", 303)
    answer.headers.append("set-cookie", cookie(TOKEN_COOKIE, token))
    answer.headers.append("set-cookie", cookie(SESSION_COOKIE, new_session()))
    return answer


def _login(problem: str | None, status: int = 200) -> Response:
    body = fragments.part("login", problem=problem, style=fragments.style())
    return HTMLResponse(body, status, {"content-security-policy": POLICY})


@router.post("/page/new")
async def new_conversation(visitor: KnownVisitor) -> Response:
    """Begin another conversation."""
    answer = RedirectResponse("/", 303)
    answer.headers.append("set-cookie", cookie(SESSION_COOKIE, new_session()))
    return answer


@router.post("/page/pictures")
async def upload(request: Request, visitor: Counted) -> JSONResponse:
    """Store a picture for the next message; the body is the file.

    The message goes without a picture that is not decoded by its deadline; then the answer has `given_up`.
    """
    signed, kept = await request.app.state.uploads.keep(visitor, await request.body())
    if kept.ref is None:
        return JSONResponse({"picture": signed, "given_up": kept.notices[0].message})
    return JSONResponse({"picture": signed, "width": kept.ref.width, "height": kept.ref.height})


@router.get("/page/pictures/{signed}.jpg")
async def picture(signed: Annotated[str, Path(pattern=_SIGNED)], request: Request, visitor: KnownVisitor) -> Response:
    """A picture by its signed address. It is decoded and encoded again; the uploaded file is never sent."""
    sha256 = request.app.state.visitors.check(visitor, signed)
    if sha256 is None:
        raise HTTPException(404, "you have no such picture")
    found = await request.app.state.uploads.of(visitor).afind(sha256)
    return await asyncio.to_thread(_as_jpeg, found.image)


@router.get("/page/results/{name}.json")
async def result_json(name: Name, request: Request, visitor: KnownVisitor) -> Response:
    """An answer's `Extraction`."""
    found = await _talk(request).result(visitor, name)
    if found is None:
        raise _missing()
    return _download(found.extraction.to_json().encode(), "application/json", f"{found.extraction.id}.json")


@router.get("/page/results/{name}.png")
async def result_png(name: Name, request: Request, visitor: Counted) -> Response:
    """An answer's picture with boxes, masks and labels."""
    found = await _talk(request).result(visitor, name)
    image = found and await _talk(request).picture(visitor, found.extraction)
    if not found or not image:
        raise _missing()

    def draw() -> bytes:
        file = io.BytesIO()
        annotate(image.image, found.extraction).save(file, "PNG")
        return file.getvalue()

    return _download(await asyncio.to_thread(draw), "image/png", f"{found.extraction.id}.png")


@router.get("/page/results/{name}/heat/{index}.png")
async def result_heat(name: Name, index: int, request: Request, visitor: KnownVisitor) -> Response:
    """The heat map of one name of an answer, as an overlay for its picture."""
    found = await _talk(request).result(visitor, name)
    blob = _talk(request).state.heat.of(found.extraction).get(index) if found else None
    if found is None or blob is None or found.extraction.image is None:
        raise _missing()
    png = await asyncio.to_thread(heat_layer, blob, found.extraction.image)
    return Response(png, media_type="image/png", headers=_PRIVATE)


@router.get("/page/results/{name}.html")
async def result_html(name: Name, request: Request, visitor: Counted) -> Response:
    """An answer as one page that opens offline."""
    found = await _talk(request).result(visitor, name)
    if found is None:
        raise _missing()
    image = await _talk(request).picture(visitor, found.extraction)
    heat = _talk(request).state.heat.of(found.extraction)
    shown = PostView(found.extraction, image.image if image else None, heat)
    body = await asyncio.to_thread(lambda: page([shown], found.about).encode())
    return _download(body, "text/html; charset=utf-8", f"{found.extraction.id}.html")


@router.post("/page/results/{name}/review")
async def begin_review(name: Name, request: Request, visitor: Counted) -> JSONResponse:
    """Begin the review of a result's close decisions."""
    found = await reviewing.begin(_talk(request), visitor, name)
    if found is None:
        raise _missing()
    if found.state == "done":
        return JSONResponse({"done": True, "html": ""})
    return JSONResponse({"done": False, "html": fragments.questions(found)})


@router.post("/page/reviews/{review_id}/answers")
async def answer_review(review_id: JobId, body: AnswersBody, request: Request, visitor: Counted) -> JSONResponse:
    """Answer a review's questions: the next ones, or a new turn of the conversation."""
    found = await reviewing.answer(_talk(request), visitor, review_id, body.answers)
    if found is None:
        raise _missing()
    return JSONResponse({"done": found.state == "done", "html": fragments.questions(found)})


@router.post("/page/reviews/{review_id}/drop")
async def drop_review(review_id: JobId, request: Request, visitor: Counted) -> JSONResponse:
    """Decide nothing; the result stays unchanged."""
    if not await _talk(request).state.reviews.delete(visitor.jobs_owner, review_id):
        raise _missing()
    return JSONResponse({"dropped": review_id})


@router.post("/page/reviews/{review_id}/row")
async def keep_row(review_id: JobId, request: Request, visitor: Counted) -> JSONResponse:
    """Save a review's answers as a training row."""
    reviews = _talk(request).state.reviews
    files = await asyncio.to_thread(reviews.save, visitor.jobs_owner, review_id)
    if files is None:
        raise _missing()
    return JSONResponse({"files": files, "posts": await asyncio.to_thread(reviews.rows_kept, visitor.jobs_owner)})


@router.get("/page/rows.zip", response_class=FileResponse)
async def rows(request: Request, visitor: Counted) -> FileResponse:
    """The visitor's training rows."""
    return await rows_file(_talk(request).state.reviews, visitor.jobs_owner)


@router.post("/page/jobs")
async def begin_job(request: Request, visitor: Counted, profile: str | None = None) -> Job:
    """Accept a file of posts as a job; the body is JSON lines, pictures in them as base64."""
    state: ServerState = request.app.state.namepin
    profile = profile or state.pins.profiles[0]
    await asyncio.to_thread(state.pins.get, profile)
    data = await request.body()
    posts = await asyncio.to_thread(read_file, data, state.settings.max_job_posts, state.settings.urls)
    return await asyncio.to_thread(state.jobs.accept, visitor.jobs_owner, profile, posts)


@router.get("/page/jobs/{job_id}.jsonl", response_class=StreamingResponse)
async def job_results(job_id: JobId, request: Request, visitor: KnownVisitor) -> StreamingResponse:
    """The results of one of the visitor's jobs so far."""
    path = request.app.state.namepin.jobs.results(visitor.jobs_owner, job_id)
    if path is None:
        raise _missing()
    return growing_file(path, f"{job_id}.jsonl", _PRIVATE)


def read_file(data: bytes, most: int, urls: bool) -> list[JobPost]:
    """The posts of a file of JSON lines; the line number replaces a missing id.

    Args:
        data: the file.
        most: largest number of posts.
        urls: whether a picture may be named by its address.

    Raises:
        NamepinError: E104 for a file without posts, E103 with a line that is not a post, E108 for too many, E12x.
    """
    posts: list[JobPost] = []
    for line in read_lines(data, len(data)):
        if len(posts) == most:
            raise NamepinError("E108", f"a job has at most {most} posts", mend="split the file")
        try:
            body = PostBody.model_validate({"id": f"line-{line.number}", **_object(line)})
            row = body.model_dump(include={"id", "text", "tokens"}, exclude_none=True)
            make_post(row)
            posts.append(JobPost(row=row, picture=picture_of_body(body, urls)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise NamepinError("E103", f"{line.where}: {printable(where)}: {first['msg']}") from error
        except NamepinError as error:
            raise NamepinError(error.code, f"{line.where}: {error.what}", mend=error.mend) from error
    if not posts:
        raise NamepinError("E104", "the file has no posts", mend='one per line: {"id": "a", "text": "..."}')
    return posts


def _object(line: Line) -> dict[str, object]:
    if is_intricate(line.data):
        raise NamepinError("E108", f"a post has at most {MAX_PARTS:,} parts")
    try:
        return line.parse_object()
    except ValueError as error:
        raise NamepinError("E103", str(error), mend='a post is {"id": "a", "text": "..."}') from error


def _as_jpeg(image: Image.Image) -> Response:
    file = io.BytesIO()
    shrink(image).save(file, "JPEG", quality=86)
    return Response(file.getvalue(), media_type="image/jpeg", headers=_PRIVATE)


def _download(body: bytes, kind: str, name: str) -> Response:
    return Response(
        body, media_type=kind, headers={**_PRIVATE, "content-disposition": f'attachment; filename="{name}"'}
    )


def _talk(request: Request) -> PageConversation:
    talk: PageConversation = request.app.state.talk
    return talk


def _missing() -> HTTPException:
    return HTTPException(404, "you have no such result")
