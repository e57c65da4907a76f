"""Sources of settings as flat layers of `dotted.key -> value`; each value has its origin for error messages."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namepin.tools.errors import NamepinError

PROFILES = Path(__file__).parents[1] / "profiles"
ENV_PREFIX = "NAMEPIN_"
_SECRET_WORDS = ("api_key", "apikey", "token", "password", "secret")


@dataclass(frozen=True)
class Value:
    """A setting's value as written, and its origin."""

    value: Any
    origin: str


Layer = dict[str, Value]


def profile_names() -> list[str]:
    """The profiles that ship with Namepin."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def profile_path(profile: str) -> Path:
    """The file of a profile given by name or by path.

    Raises:
        NamepinError: E200 when there is no such profile.
    """
    shipped = PROFILES / f"{profile}.toml"
    if profile in profile_names():
        return shipped
    path = Path(profile)
    if path.suffix == ".toml" or os.sep in profile:
        if path.is_file():
            return path
        raise NamepinError("E200", "no such profile file", where=profile, mend="check the path")
    known = ", ".join(profile_names())
    mend = f"{suggest(profile, profile_names())}profiles: {known}"
    raise NamepinError("E200", f"unknown profile {profile!r}", mend=mend)


def from_profile(profile: str) -> Layer:
    """The layer of a profile file.

    Raises:
        NamepinError: E200 when there is no such profile, E201 when it is not readable TOML.
    """
    return from_file(profile_path(profile))


def from_file(path: Path) -> Layer:
    """The layer of a TOML file.

    Raises:
        NamepinError: E201 when it cannot be read as TOML.
    """
    try:
        table = flatten(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:  # also for numbers of thousands of digits, and deep nesting
        raise NamepinError("E201", f"not a readable TOML file: {error}", where=str(path)) from error
    return {key: Value(value, str(path)) for key, value in table.items()}


def from_assignments(assignments: Iterable[str]) -> Layer:
    """The layer of `--set key=value` flags; later flags win.

    Raises:
        NamepinError: E202 when a flag has no `=`.
    """
    layer: Layer = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise NamepinError(
                "E202", f"--set {assignment!r} is not key=value", mend="for example --set gate.gamma=0.4"
            )
        layer[key.strip()] = Value(parse_value(value.strip()), f"--set {assignment}")
    return layer


def from_mapping(overrides: Mapping[str, Any]) -> Layer:
    """The layer of Python overrides: nested mappings, or `gate__gamma=0.4`, or `{"gate.gamma": 0.4}`."""
    flat = flatten({key.replace("__", "."): value for key, value in overrides.items()})
    return {key: Value(value, f"override {key}") for key, value in flat.items()}


def from_environment(environment: Mapping[str, str], plain: Iterable[str]) -> Layer:
    """The layer of `NAMEPIN_GATE__GAMMA=0.4`: a double underscore stands for the dot.

    Names without one count only if `plain` lists them: other programs' variables may share the prefix.
    """
    layer: Layer = {}
    for name, value in sorted(environment.items()):
        key = name.removeprefix(ENV_PREFIX).lower()
        if name.startswith(ENV_PREFIX) and ("__" in key or key in plain):
            layer[key.replace("__", ".")] = Value(parse_value(value), f"environment variable {name}")
    return layer


def parse_value(text: str) -> Any:
    """A value from a command line: lists and tables as TOML, `null` as None, other values as text.

    Numbers and booleans stay text on purpose: the setting's type parses them, so that a model named `12` works.
    """
    if text == "null":
        return None
    if text[:1] in ("[", "{", '"'):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            return text
    return text


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"gate": {"gamma": 1}}` as `{"gate.gamma": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def merge_layers(layers: Iterable[Layer], slots: Iterable[str]) -> Layer:
    """Merge the layers, lowest first. Another backend for a role drops the lower layers' settings of the old backend.

    Raises:
        NamepinError: E204 when a layer holds a secret.
    """
    slots = frozenset(slots)
    result: Layer = {}
    for layer in layers:
        for key, value in layer.items():
            refuse_secret(key, value)
            slot, _, name = key.partition(".")
            old = result.get(key)
            if slot in slots and name == "backend" and old is not None and old.value != value.value:
                result = {k: v for k, v in result.items() if not k.startswith(f"{slot}.")}
        result |= layer
    return result


def refuse_secret(key: str, value: Value) -> None:
    """Secrets come from environment variables only, so that no profile, log or shell history holds them."""
    if key.rpartition(".")[2].lower() in _SECRET_WORDS:
        raise NamepinError(
            "E204",
            f"{key} is a secret and cannot be set here",
            where=value.origin.partition("=")[0],
            mend="set the environment variable OPENAI_API_KEY instead",
        )


def unknown_setting(key: str, value: Value, valid: Sequence[str]) -> NamepinError:
    """The error for an unknown key; it names the nearest valid key."""
    mend = suggest(key, valid) or f"valid: {', '.join(valid[:12])}{', ...' if len(valid) > 12 else ''}"
    return NamepinError("E202", f"unknown setting {key!r}", where=value.origin, mend=mend.strip())


def suggest(name: str, valid: Iterable[str]) -> str:
    """`did you mean X? `, or an empty text if no valid name is near."""
    valid = list(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    if not near:
        # A key without its section, or in the wrong section.
        last = name.rpartition(".")[2]
        ends = {key.rpartition(".")[2]: key for key in reversed(valid)}
        near = [ends[end] for end in difflib.get_close_matches(last, list(ends), n=1, cutoff=0.75)]
    return f"did you mean {near[0]}? " if near else ""
