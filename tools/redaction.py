"""What may not leave this machine in a trace: secrets, this machine's folders, pictures inside messages."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)|\bsk-[\w-]{8,}|(?<=Bearer )\S+")
_SECRET_NAMES = re.compile(r"(KEY|TOKENS?|SECRET|PASSWORD|DATABASE_URL|_PAT|_HEADERS)$")
_SHORTEST = 6
"""A secret shorter than this is not looked for: it would blank out ordinary words."""


def without_credentials(text: str) -> str:
    """A message with `user:password@` of addresses, bearer tokens and API keys blanked out."""
    return _CREDENTIALS.sub("***", text)


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """The values of variables whose names say that they hold secrets; of `name=secret, ...` each secret, too."""
    found: set[str] = set()
    for name, value in environment.items():
        if _SECRET_NAMES.search(name.upper()):
            found |= {value, *re.split(r"[,=\s]+", value)[1::2]}
    return {secret for secret in found if len(secret) >= _SHORTEST}


class Scrubber:
    """Takes folders, keys, and pictures sent to models out of any JSON-like value.

    Args:
        folders: whose names are replaced by dots.
        secrets: strings that are blanked out wherever they stand.
    """

    def __init__(self, folders: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        given = set(folders)
        resolved = given | {str(Path(folder).resolve()) for folder in given}
        self.folders = sorted(resolved - {"/", "."}, key=len, reverse=True)
        self.secrets = sorted(secrets, key=len, reverse=True)

    @classmethod
    def of_this_process(cls, folders: Iterable[str] = ()) -> "Scrubber":
        """One that knows the environment's secrets."""
        return cls(folders, secrets_of(os.environ))

    def __call__(self, value: Any) -> Any:
        """The value with every string in it scrubbed."""
        if isinstance(value, Mapping):
            return {key: self(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self(inner) for inner in value]
        if not isinstance(value, str):
            return value
        if value.startswith("data:image/"):
            return "[a picture]"
        for folder in self.folders:
            value = value.replace(folder, "...")
        for secret in self.secrets:
            value = value.replace(secret, "***")
        return without_credentials(value)
