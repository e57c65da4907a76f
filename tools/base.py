"""The interface of every tool: a name, a version, a fingerprint, and a batched call from requests to results."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel

from namepin.tools.media import Media

Request = TypeVar("Request", bound=BaseModel, contravariant=True)
Result = TypeVar("Result", bound=BaseModel, covariant=True)


class Tool(Protocol[Request, Result]):
    """One tool.

    `run` takes a list of requests and returns a list of results of the same length and order. It is safe to call from
    several threads. A tool whose server is down raises `ToolUnavailable`.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    """Incremented whenever the tool's output changes for the same request, config and weights."""

    @property
    def fingerprint(self) -> str:
        """See `fingerprint`. Tools of equal fingerprints give equal results on one machine and batch shape."""
        ...

    def run(self, requests: Sequence[Request], media: Media) -> Sequence[Result]:
        """Answer every request, in order."""
        ...


def canonical_json(value: Any) -> str:
    """The canonical JSON of a value: sorted keys, no blanks, floats in full, unescaped Unicode."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """Sha256 over `canonical_json`, as hex."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def fingerprint(
    name: str, version: int, config: Mapping[str, Any], *, weights: str | None = None, prompt: str | None = None
) -> str:
    """Sha256 over everything that determines a tool's answer: name, version, config, weights' sha256, prompt text.

    Secrets, paths and the commit are left out, so equal tools have equal fingerprints on any machine.
    """
    return digest({"name": name, "version": version, "config": dict(config), "weights": weights, "prompt": prompt})


def file_sha256(path: Path) -> str:
    """Sha256 of a file's bytes, as hex; the file is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
