"""The page's routes: sign-in, uploads, pictures, downloads, batch files. They are not part of the REST API."""

import asyncio
import io
import pathlib
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from PIL import Image
from starlette.datastructures import UploadFile

from namepin.agent.render.html import About, heat_layer, page, shrink
from namepin.agent.render.picture import annotate
from namepin.agent.render.tables import as_csv
from namepin.agent.render.view import PostView
from namepin.agent.server.access import TOKEN_COOKIE, Denied
from namepin.agent.server.bodies import JsonRoute
from namepin.agent.server.jobs import Job, JobSource
from namepin.agent.server.rest import growing_file
from namepin.agent.server.review_api import AnswersBody, rows_file
from namepin.agent.server.state import ServerState
from namepin.agent.stores.pictures import load_apart
from namepin.agent.web import fragments
from namepin.agent.web import reviews as reviewing
from namepin.agent.web.batch_files import MAX_FILES, UploadBounds, UploadedFile, read_upload
from namepin.agent.web.conversation import PageConversation
from namepin.agent.web.examples import thumbnail
from namepin.agent.web.gradio_guard import POLICY, cookie
from namepin.agent.web.job_results import PER_PAGE, STEP, csv_chunks, html_page, html_zip, table_rows
from namepin.agent.web.visitors import SESSION_COOKIE, Visitor, Visitors, new_session

router = APIRouter(include_in_schema=False, route_class=JsonRoute)
_SIGNED = r"^[0-9a-f]{64}\.[0-9a-f]{32}$"
_PRIVATE = {"cache-control": "private, no-store"}
_LARGE, _SMALL = 1280, 192
"""Longer side in pixels of a post's picture, and of a picture in a job's table."""


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


@router.get("/page/answering")
async def answering(request: Request, visitor: KnownVisitor) -> JSONResponse:
    """Whether a message of the visitor is being answered."""
    return JSONResponse({"answering": _talk(request).is_answering(visitor)})


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


@router.get("/page/results/{name}.csv")
async def result_csv(name: Name, request: Request, visitor: KnownVisitor) -> Response:
    """The table of an answer, or the names of its result, as CSV."""
    rows = await _talk(request).table(visitor, name)
    if rows is None:
        raise _missing()
    return _download(as_csv(rows).encode("utf-8", "replace"), "text/csv; charset=utf-8", "names.csv")


@router.get("/page/examples/{number}.jpg")
async def example_picture(number: Annotated[int, Path(ge=0, le=99)], visitor: KnownVisitor) -> Response:
    """An example's picture in small."""
    data = await asyncio.to_thread(thumbnail, number)
    if data is None:
        raise _missing()
    return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})


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
    """Accept files of posts as a job: a form of files, or the bytes of one file."""
    state: ServerState = request.app.state.namepin
    profile = profile or state.pins.profiles[0]
    await asyncio.to_thread(state.pins.get, profile)
    bounds = UploadBounds(state.settings.max_job_posts, state.settings.max_body_mb * 2**20, state.settings.urls)
    posts, source = await asyncio.to_thread(read_upload, await _files(request), bounds)
    return await asyncio.to_thread(state.jobs.accept, visitor.jobs_owner, profile, posts, source)


async def _files(request: Request) -> list[UploadedFile]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return [UploadedFile("posts", await request.body())]
    async with request.form(max_files=MAX_FILES, max_fields=8) as form:
        sent = [one for one in form.getlist("files") if isinstance(one, UploadFile)]
        return [UploadedFile(one.filename or "posts", await one.read()) for one in sent]


@router.get("/page/jobs")
async def list_jobs(request: Request, visitor: KnownVisitor) -> HTMLResponse:
    """The visitor's jobs as HTML, the newest first."""
    jobs = request.app.state.namepin.jobs
    mine = sorted(
        await asyncio.to_thread(jobs.list, visitor.jobs_owner), key=lambda job: -jobs.age(visitor.jobs_owner, job.id)
    )
    return _fragment("jobs", jobs=mine, per_page=PER_PAGE)


@router.post("/page/jobs/{job_id}/drop")
async def drop_job(job_id: JobId, request: Request, visitor: Counted) -> JSONResponse:
    """Stop and remove a job."""
    if not await asyncio.to_thread(request.app.state.namepin.jobs.delete, visitor.jobs_owner, job_id):
        raise _missing()
    return JSONResponse({"dropped": job_id})


@router.get("/page/jobs/{job_id}/rows")
async def job_rows(
    job_id: JobId, request: Request, visitor: KnownVisitor, start: Annotated[int, Query(ge=0, le=10**6)] = 0
) -> HTMLResponse:
    """The next rows of the table of a job's results, as HTML."""
    folder, source = _job(request, visitor, job_id)
    rows, more = await asyncio.to_thread(table_rows, folder, source, start)
    return _fragment("job_rows", rows=rows, more=more, step=STEP, job=job_id)


@router.get("/page/jobs/{job_id}/skipped")
async def job_skipped(job_id: JobId, request: Request, visitor: KnownVisitor) -> HTMLResponse:
    """The lines of a job's files that are not posts, as HTML."""
    _, source = _job(request, visitor, job_id)
    return _fragment("job_skipped", skipped=source.skipped)


@router.get("/page/jobs/{job_id}.jsonl", response_class=StreamingResponse)
async def job_results(job_id: JobId, request: Request, visitor: KnownVisitor) -> StreamingResponse:
    """The results of one of the visitor's jobs so far."""
    path = request.app.state.namepin.jobs.results(visitor.jobs_owner, job_id)
    if path is None:
        raise _missing()
    return growing_file(path, f"{job_id}.jsonl", _PRIVATE)


@router.get("/page/jobs/{job_id}.csv", response_class=StreamingResponse)
async def job_csv(job_id: JobId, request: Request, visitor: Counted) -> StreamingResponse:
    """The results of a job so far as CSV, one row per name."""
    folder, source = _job(request, visitor, job_id)
    headers = {**_PRIVATE, "content-disposition": f'attachment; filename="{job_id}.csv"'}
    return StreamingResponse(csv_chunks(folder, source), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/page/jobs/{job_id}.html")
async def job_html(job_id: JobId, request: Request, visitor: Counted) -> Response:
    """The results of a job as one page that opens offline; the ZIP of its pages if there are many."""
    folder, job, about, max_pixels = await _job_about(request, visitor, job_id)
    if job.done > PER_PAGE:
        return RedirectResponse(f"/page/jobs/{job_id}.zip", 303)
    body = await asyncio.to_thread(html_page, folder, about, max_pixels)
    return _download(body, "text/html; charset=utf-8", f"{job_id}.html")


@router.get("/page/jobs/{job_id}.zip", response_class=StreamingResponse)
async def job_zip(job_id: JobId, request: Request, visitor: Counted) -> StreamingResponse:
    """The results of a job so far as a ZIP of pages that open offline."""
    folder, job, about, max_pixels = await _job_about(request, visitor, job_id)
    headers = {**_PRIVATE, "content-disposition": f'attachment; filename="{job_id}.zip"'}
    chunks = html_zip(folder, job.done, about, max_pixels)
    return StreamingResponse(chunks, media_type="application/zip", headers=headers)


@router.get("/page/jobs/{job_id}/pictures/{sha256}.jpg")
async def job_picture(
    job_id: JobId, sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")], request: Request, visitor: KnownVisitor
) -> Response:
    """A picture of a job in small."""
    folder, _ = _job(request, visitor, job_id)
    try:
        data = await asyncio.to_thread((folder / sha256).read_bytes)
    except OSError as error:
        raise _missing() from error
    found = await load_apart(data, request.app.state.uploads.max_pixels)
    answer = await asyncio.to_thread(_as_jpeg, found.image, _SMALL)
    # The table of a running job is shown again and again, so its pictures may stay in this browser for a while.
    answer.headers["cache-control"] = "private, max-age=600"
    return answer


async def _job_about(request: Request, visitor: Visitor, job_id: str) -> tuple[pathlib.Path, Job, About, int]:
    """A job's folder and state, facts about its run for its pages, and the largest number of pixels of a picture."""
    state: ServerState = request.app.state.namepin
    folder, _ = _job(request, visitor, job_id)
    job = state.jobs.get(visitor.jobs_owner, job_id)
    if job is None:
        raise _missing()
    settings = (await asyncio.to_thread(state.pins.get, job.profile)).settings
    about = About(job.profile, settings.gate.gamma, settings.match.threshold)
    return folder, job, about, settings.images.max_pixels


def _job(request: Request, visitor: Visitor, job_id: str) -> tuple[pathlib.Path, JobSource]:
    found: tuple[pathlib.Path, JobSource] | None = request.app.state.namepin.jobs.source(visitor.jobs_owner, job_id)
    if found is None:
        raise _missing()
    return found


def _fragment(name: str, **values: object) -> HTMLResponse:
    return HTMLResponse(fragments.part(name, **values), headers=_PRIVATE)


def _as_jpeg(image: Image.Image, most: int = _LARGE) -> Response:
    file = io.BytesIO()
    shrink(image, most).save(file, "JPEG", quality=86)
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
