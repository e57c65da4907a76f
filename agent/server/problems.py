"""The error responses of all HTTP interfaces."""

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from namepin.agent.server.access import TooMany


class Problem(BaseModel):
    """The form of every error; docs/errors.md lists the codes."""

    code: str
    message: str
    mend: str = ""


def problem(status: int, code: str, message: str, mend: str = "") -> JSONResponse:
    """An error's answer."""
    return JSONResponse(Problem(code=code, message=message, mend=mend).model_dump(), status)


def unauthorized() -> JSONResponse:
    """401: a token is needed."""
    answer = problem(401, "E342", "a token of this server is needed", "send Authorization: Bearer TOKEN")
    answer.headers["www-authenticate"] = "Bearer"
    return answer


def too_many(error: TooMany) -> JSONResponse:
    """429, with the time to try again."""
    answer = problem(429, "E343", str(error), f"try again in {error.retry_after} s")
    answer.headers["retry-after"] = str(error.retry_after)
    return answer
