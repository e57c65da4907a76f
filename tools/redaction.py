"""What may not leave this machine in a trace: secrets, this machine's folders, pictures inside messages."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)|\bsk-[\w-]{8,}|(?<=Bearer )\S+")
_SECRET_NAMES = re.compile(r"(KEY|TOKENS?|SECRET|PASSWORD|DATABASE_URL|_PAT|_HEADERS)$")


def is_secret(value: str) -> bool:
    """Whether a value can be a secret: nobody writes it by chance.

    Servers without a key are asked with `x`, `EMPTY`, `ollama`, `test` or the like. Such words stand in answers. A
    secret has no white space. It has 16 characters, 8 of them different; or 8 characters, 6 of them different, and both
    letters and digits.
    """
    if any(character.isspace() for character in value):
        return False
    different = len(set(value))
    mixed = any(character.isdigit() for character in value) and any(character.isalpha() for character in value)
    return (len(value) >= 16 and different >= 8) or (len(value) >= 8 and different >= 6 and mixed)


def without_secret(text: str, secret: str) -> str:
    """A text without the secret, where it can be one."""
    return text.replace(secret, "***") if is_secret(secret) else text


def without_credentials(text: str) -> str:
    """A message with `user:password@` of addresses, bearer tokens and API keys blanked out."""
    return _CREDENTIALS.sub("***", text)


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """The values of variables whose names say that they hold secrets; of `name=secret, ...` each secret, too."""
    found: set[str] = set()
    for name, value in environment.items():
        if _SECRET_NAMES.search(name.upper()):
            found |= {value, *re.split(r"[,=\s]+", value)[1::2]}
    return {secret for secret in found if is_secret(secret)}


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
