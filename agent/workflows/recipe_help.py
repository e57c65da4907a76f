"""Describes the settings of a recipe: name, default, allowed values and meaning, from its class and docstring."""

import dataclasses
import inspect
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

from namepin.agent.workflows.recipes import choice_of, recipe_kinds


@dataclasses.dataclass(frozen=True)
class RecipeSetting:
    """One setting of a recipe.

    Attributes:
        name: its name in `--set name=value`.
        default: its default as TOML writes it; None where it must be given.
        values: the allowed values where there are few, else its type.
        text: its meaning.
        backends: the backends (or stages) whose recipes have it.
    """

    name: str
    default: str | None
    values: str
    text: str
    backends: tuple[str, ...]


def describe_recipe(tool: str) -> list[RecipeSetting]:
    """All settings of a tool's recipes, in their order; a setting that several backends share comes once."""
    kinds = recipe_kinds(tool)
    choice = choice_of(kinds)
    found: dict[tuple[str, str | None], RecipeSetting] = {}
    for backend, kind in kinds.items():
        texts, hints = attribute_texts(kind), get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.name == choice:
                continue
            default = None if field.default is dataclasses.MISSING else toml(field.default)
            backends = (*(found[field.name, default].backends if (field.name, default) in found else ()), backend)
            text = texts.get(field.name, "")
            found[field.name, default] = RecipeSetting(field.name, default, _values(hints[field.name]), text, backends)
    return [*_choice(choice, tuple(kinds)), *found.values()]


_CHOICES = {"backend": "the net that is trained.", "stage": "the stage of the training."}


def _choice(name: str, values: tuple[str, ...]) -> list[RecipeSetting]:
    """The setting that chooses between recipes; none where there is one only."""
    if len(values) < 2:
        return []
    return [RecipeSetting(name, f'"{values[0]}"', "|".join(values), _CHOICES[name], values)]


def attribute_texts(kind: type) -> dict[str, str]:
    """Attribute -> its text in the `Attributes:` sections of a class and its bases; the class itself wins."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = re.search(r"^Attributes:\n((?:[ \t]+.*\n?|\n)*)", inspect.cleandoc(base.__doc__ or ""), re.M)
        for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", re.M):
            texts[name] = " ".join(text.split())
    return texts


def toml(value: Any) -> str:
    """A default as it is written in a recipe's file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _values(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    return getattr(hint, "__name__", str(hint).replace("typing.", ""))
