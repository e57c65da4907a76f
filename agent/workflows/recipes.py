"""Builds recipes of `finetune/`, which are dataclasses, from a TOML file and `--set`."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from namepin.agent.config.layers import Layer, from_assignments, from_file, suggest, unknown_setting
from namepin.tools.errors import NamepinError

Recipe = TypeVar("Recipe")

RECIPE_MODULES: Mapping[str, str] = {
    "tagger": "namepin.finetune.tagger.train",
    "reranker": "namepin.finetune.reranker",
    "matcher": "namepin.finetune.matcher",
    "entailment": "namepin.finetune.entailment",
    "grounder": "namepin.finetune.grounder.ofa",
    "segmenter": "namepin.finetune.segmenter",
    "fusion": "namepin.finetune.fusion",
    "generator": "namepin.finetune.generator",
    "extractor": "namepin.finetune.extractor.train",
}
"""The module of each tool's training: its `train(recipe, resume)`. Importing it imports PyTorch."""


def recipe_kinds(tool: str) -> Mapping[str, type[Any]]:
    """The recipes of a tool by backend or stage; the first is the default. Importing them imports no PyTorch."""
    kinds: Mapping[str, type[Any]] = import_module(f"namepin.finetune.recipes.{tool}").RECIPES
    return kinds


def choice_of(kinds: Mapping[str, type[Any]]) -> str:
    """The setting that chooses among a tool's recipes: `stage` where they follow one another, else `backend`."""
    names = {field.name for kind in kinds.values() for field in dataclasses.fields(kind)}
    return "stage" if "stage" in names else "backend"


_RENAMED: Mapping[str, str] = {"bf16": "precision (precision=bf16 or precision=no)"}
"""Settings of earlier releases and their new names."""


def load_recipe(kinds: Mapping[str, type[Recipe]], config: Path | None, assignments: Sequence[str]) -> Recipe:
    """A recipe; `--set` overrides the file, which overrides the defaults.

    Args:
        kinds: recipe by backend or stage; the first is the default.
        config: a TOML file, or the name of a shipped recipe.
        assignments: the `--set` flags.

    Raises:
        NamepinError: E201 the file is not TOML or sets nothing, E202 an unknown setting, E203 a value that
            does not fit.
    """
    given: Layer = from_file(_file_of(config)) if config else {}
    if config and not given:
        mend = "give a file with settings, or leave out --config to train with the defaults"
        raise NamepinError("E201", "the file sets nothing", where=str(config), mend=mend)
    values = given | from_assignments(assignments)
    choice = choice_of(kinds)
    chosen = values[choice].value if choice in values else next(iter(kinds))
    if chosen not in kinds:
        mend = f"{suggest(str(chosen), kinds)}{choice}s: {', '.join(kinds)}"
        raise NamepinError("E203", f"no recipe has the {choice} {chosen!r}", where=values[choice].origin, mend=mend)
    kind = kinds[chosen]
    valid = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # every recipe is a dataclass
    for key, value in values.items():
        if key in _RENAMED:
            what, mend = f"unknown setting {key!r}", f"its new name is {_RENAMED[key]}"
            raise NamepinError("E202", what, where=value.origin, mend=mend)
        if key not in valid:
            raise unknown_setting(key, value, valid)
    try:
        return TypeAdapter(kind).validate_python(
            {key: _as_list(kind, key, value.value) for key, value in values.items()}
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        if key not in values:
            raise NamepinError("E203", f"{key} is not set", mend=f"give --set {key}=...") from error
        what = f"{key}: {first['msg']}, not {first['input']!r}"
        raise NamepinError("E203", what, where=values[key].origin, mend="give a value that fits") from error


def shipped_recipes() -> dict[str, Path]:
    """The TOML files of `finetune/recipes` by name."""
    import namepin.finetune

    folder = Path(str(namepin.finetune.__file__)).parent / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def _file_of(config: Path) -> Path:
    if config.is_file():
        return config
    shipped = shipped_recipes()
    if str(config) in shipped:
        return shipped[str(config)]
    mend = f"give a TOML file, or a shipped recipe: {', '.join(shipped)}"
    raise NamepinError("E201", "no such recipe", where=str(config), mend=mend)


def _as_list(kind: type, key: str, value: object) -> object:
    """Accept a list without quotes, `expansions=one.jsonl,two.jsonl`."""
    if isinstance(value, str) and get_origin(get_type_hints(kind)[key]) is tuple:
        return tuple(one.strip() for one in value.strip("[]").split(",") if one.strip())
    return value
