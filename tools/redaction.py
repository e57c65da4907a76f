"""Removes private data from traces: secrets, this machine's folders, pictures inside messages."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

Value = TypeVar("Value")

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)|\bsk-[\w-]{8,}|(?<=Bearer )\S+")
_SECRET_NAMES = re.compile(r"(KEY|TOKENS?|SECRET|PASSWORD|DATABASE_URL|_PAT|_HEADERS)$")


def is_secret(value: str) -> bool:
    """Whether a value can be a secret.

    Servers without authentication get keys such as `x`, `EMPTY`, `ollama` or `test`. These words occur in answers, so
    they do not count. A secret has no white space. It has at least 16 characters, 8 of them different; or at least 8
    characters, 6 of them different, with both letters and digits.
    """
    if any(character.isspace() for character in value):
        return False
    different = len(set(value))
    mixed = any(character.isdigit() for character in value) and any(character.isalpha() for character in value)
    return (len(value) >= 16 and different >= 8) or (len(value) >= 8 and different >= 6 and mixed)


def without_secret(value: Value, secret: str) -> Value:
    """A text, or the texts of a model or a collection, with the secret removed, where it can be a secret."""
    return cast(Value, _replaced(value, secret)) if is_secret(secret) else value


def _replaced(value: Any, secret: str) -> Any:
    if isinstance(value, str):
        return type(value)(value.replace(secret, "***")) if secret in value else value
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: _replaced(inner, secret) for name, inner in value})
    if isinstance(value, dict):
        return {_replaced(key, secret): _replaced(inner, secret) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(inner, secret) for inner in value)
    return value


class SecretFilter:
    """Removes a secret from a text that comes in pieces, also where it is split among them.

    Args:
        secret: nothing is removed if it cannot be a secret.
    """

    def __init__(self, secret: str) -> None:
        self._secret, self._held = secret if is_secret(secret) else "", ""

    def __call__(self, piece: str) -> str:
        """The text that can be shown now; what may be the beginning of the secret is held back."""
        text = (self._held + piece).replace(self._secret, "***") if self._secret else piece
        longest = min(len(self._secret) - 1, len(text))
        held = next((n for n in range(longest, 0, -1) if text.endswith(self._secret[:n])), 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """The text that was held back, at the end."""
        rest, self._held = self._held, ""
        return rest


def without_credentials(text: str) -> str:
    """A message without `user:password@` in addresses, bearer tokens and API keys."""
    return _CREDENTIALS.sub("***", text)


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """The values of environment variables whose names mark them as secrets; of `name=secret, ...` each secret, too."""
    found: set[str] = set()
    for name, value in environment.items():
        if _SECRET_NAMES.search(name.upper()):
            found |= {value, *re.split(r"[,=\s]+", value)[1::2]}
    return {secret for secret in found if is_secret(secret)}


class Scrubber:
    """Removes folders, keys and pictures from any JSON-like value.

    Args:
        folders: paths that are replaced by dots.
        secrets: strings that are removed wherever they occur.
    """

    def __init__(self, folders: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        given = set(folders)
        resolved = given | {str(Path(folder).resolve()) for folder in given}
        self.folders = sorted(resolved - {"/", "."}, key=len, reverse=True)
        self.secrets = sorted(secrets, key=len, reverse=True)

    @classmethod
    def of_this_process(cls, folders: Iterable[str] = ()) -> "Scrubber":
        """A scrubber for the secrets of the environment."""
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
