"""JSON bodies, parsed in a thread and bounded in structure, since the C parser blocks all threads while it runs."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from namepin.tools.jsonl import parse_json

MAX_PARTS = 100_000
"""Largest number of commas, colons, brackets and escapes in one post's body. Base64 has none."""
MAX_PARTS_OF_MANY = 1_000_000
"""The same bound for a body of many posts."""
_PIECE = 2**18


def is_intricate(data: bytes, most: int = MAX_PARTS) -> bool:
    """Whether JSON has more than `most` parts. They are counted without parsing, and only up to the bound."""
    parts = 0
    for at in range(0, len(data), _PIECE):
        piece = data[at : at + _PIECE]
        parts += sum(map(piece.count, (b",", b":", b"[", b"{", b"\\")))
        if parts > most:
            return True
    return False


class _BoundedRequest(Request):
    async def json(self) -> Any:
        """The body's value.

        Raises:
            HTTPException: 413 for too many parts.
            json.JSONDecodeError: it is not JSON, or holds a number that is not finite.
        """
        if not hasattr(self, "_json"):
            most = MAX_PARTS_OF_MANY if self.url.path.endswith("/batch") else MAX_PARTS
            self._json = await asyncio.to_thread(_parse, await self.body(), most)
        return self._json


def _parse(data: bytes, most: int) -> Any:
    if is_intricate(data, most):
        raise HTTPException(413, f"the request's JSON has more than {most:,} parts")
    try:
        return parse_json(data)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from error


class JsonRoute(APIRoute):
    """A route whose body is parsed this way."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """See FastAPI's custom route classes."""
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            answer: Response = await handler(_BoundedRequest(request.scope, request.receive))
            return answer

        return bounded
