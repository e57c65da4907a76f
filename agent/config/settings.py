"""Typed settings of a run: a profile with the user's overrides.

Precedence: flag > `--set key=value` > profile file > environment (`NAMEPIN_GATE__GAMMA=0.4`) > default. Secrets are not
settings: the tool that needs a secret reads it from the environment.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, SerializeAsAny, ValidationError

from namepin.agent.config.backends import BACKENDS, OFF
from namepin.agent.config.layers import (
    Layer,
    Value,
    from_assignments,
    from_environment,
    from_mapping,
    from_profile,
    merge_layers,
    suggest,
    unknown_setting,
)
from namepin.agent.config.sections import (
    BatchSettings,
    ChatSettings,
    EstimateSettings,
    LlmSettings,
    RaySettings,
    ServeSettings,
    TracingSettings,
)
from namepin.graphs.names import GEM_MLLM, GraphName
from namepin.graphs.policy import ExpressionPolicy, GatePolicy, MaskPolicy, MatchPolicy, Policy, ReviewPolicy
from namepin.tools.errors import NamepinError
from namepin.tools.types import Frozen

DEFAULT_PROFILE = "starter"
_PLAIN = ("profile", "graph", "fallback")
_Model = TypeVar("_Model", bound=BaseModel)


class ImageSettings(Frozen):
    """Which pictures are read.

    Attributes:
        max_pixels: bound on a decoded picture's pixels.
        urls: whether a picture may be an https address of the public internet. Off by default, since a post's author
            would decide what this machine connects to.
    """

    max_pixels: Annotated[int, Field(gt=0)] = 64_000_000
    urls: bool = False


class ToolSettings(Frozen):
    """One role's tool: the backend's name and its config."""

    backend: str
    config: SerializeAsAny[BaseModel]


class Settings(Frozen):
    """All settings of a profile.

    Attributes:
        profile: the profile's name or path, as given.
        graph: name of the graph that processes the posts.
        fallback: the graph whose one model stands behind GEM's gate, for uncertain posts.
        images: bounds on pictures.
        gate: the entropy gate.
        match: the threshold from which a mention counts as being in the picture.
        expression: the text that RiVEG's entailment and grounding read.
        mask: the limits at which a mask counts as having missed its object.
        llm: the server and model of every role that names none.
        chat: the model that leads `namepin chat`; it does not change results.
        serve: bounds of `namepin serve`.
        estimate: the hardware and prices for `namepin batch --estimate`.
        tracing: the content of traces, and the share of traced posts.
        review: the conditions under which a reviewed run asks a person.
        batch: the cache that `namepin batch` keeps between runs.
        ray: processes of each stage under `namepin batch --engine ray`.
        tools: role -> tool, in the order of the graph; skipped roles are absent.
        requested: configured roles that cannot run yet (a knowledge server without its model); they give a warning.
    """

    profile: str
    graph: GraphName = GraphName.gem
    fallback: Literal["mllm"] | None = None
    images: ImageSettings = ImageSettings()
    gate: GatePolicy = GatePolicy()
    match: MatchPolicy = MatchPolicy()
    expression: ExpressionPolicy = ExpressionPolicy()
    mask: MaskPolicy = MaskPolicy()
    llm: LlmSettings = LlmSettings()
    chat: ChatSettings = ChatSettings()
    serve: ServeSettings = ServeSettings()
    estimate: EstimateSettings = EstimateSettings()
    tracing: TracingSettings = TracingSettings()
    review: ReviewPolicy = ReviewPolicy()
    batch: BatchSettings = BatchSettings()
    ray: RaySettings = RaySettings()
    tools: Mapping[str, ToolSettings] = Field(default_factory=dict)
    requested: frozenset[str] = frozenset()

    @property
    def graph_key(self) -> str:
        """The graph's name in `namepin.graphs.registry`."""
        return GEM_MLLM if self.fallback else self.graph

    def dump(self) -> dict[str, Any]:
        """The settings in a profile's form with every default; `load_settings` accepts the result as `base`."""
        plain = self.model_dump(mode="json", include={"graph", "images", *Policy.model_fields})
        tools = {role: {"backend": t.backend, **t.config.model_dump(mode="json")} for role, t in self.tools.items()}
        return plain | tools | ({"fallback": self.fallback} if self.fallback else {})


_SECTIONS: Mapping[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
"""A profile's sections that are not roles, by name."""


def load_settings(
    profile: str | None = None,
    *,
    base: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of a profile after all layers.

    Args:
        profile: name or path; None for `NAMEPIN_PROFILE`, then `starter`.
        base: resolved settings, such as a cassette's, that replace the profile's file and the environment.
        assignments: the `--set` flags as typed.
        overrides: flags and Python overrides; they win over all other layers.
        environment: environment variables; None for the process's own.

    Raises:
        NamepinError: E200 unknown profile, E201 not TOML, E202 unknown setting (the nearest valid one is named), E203
            a value that does not fit, E204 a secret where none belongs.
    """
    env = from_environment(os.environ if environment is None else environment, _PLAIN)
    named_in_env = env.pop("profile", None)
    profile = profile or (str(named_in_env.value) if named_in_env else DEFAULT_PROFILE)
    below = [env, from_profile(profile)] if base is None else [from_mapping(base)]
    values = merge_layers([*below, from_assignments(assignments), from_mapping(overrides or {})], BACKENDS)
    _check_top_level(values)
    values = _following_matcher(_sharing_llm(values))
    graph = values.get("graph", Value(GraphName.gem, "default"))
    names = list(map(str, GraphName))
    if graph.value not in names:
        mend = f"{suggest(str(graph.value), names)}graphs: {', '.join(names)}"
        raise NamepinError("E203", f"there is no graph {graph.value!r}", where=graph.origin, mend=mend)
    tools = {role: tool for role in BACKENDS if (tool := _tool(role, values)) is not None}
    enabled = {role: tool for role, tool in tools.items() if getattr(tool.config, "enabled", True)}
    return Settings(
        profile=profile,
        graph=graph.value,
        fallback=_fallback(values),
        tools=enabled,
        requested=frozenset(tools) - frozenset(enabled),
        **{section: _validate_section(model, values, section) for section, model in _SECTIONS.items()},
    )


def _fallback(values: Layer) -> Literal["mllm"] | None:
    """The fallback, which only GEM's graph has.

    Raises:
        NamepinError: E203.
    """
    chosen, graph = values.get("fallback"), values.get("graph")
    if chosen is None or chosen.value is None:
        return None
    if chosen.value != "mllm":
        raise NamepinError("E203", f"there is no fallback {chosen.value!r}", where=chosen.origin, mend="set mllm")
    if graph is not None and graph.value != GraphName.gem:
        mend = "set graph=gem, or fallback=null"
        raise NamepinError("E203", f"the graph {graph.value} has no fallback", where=graph.origin, mend=mend)
    return "mllm"


def _check_top_level(values: Layer) -> None:
    sections = (*_SECTIONS, *BACKENDS)
    for key, value in values.items():
        section, dot, _ = key.partition(".")
        if key in _PLAIN or (section in sections and dot):
            continue
        if section in sections:
            mend = f"set one of its keys, for example {_keys(section, values)[0]}"
            raise NamepinError("E203", f"{key} is a section, not a setting", where=value.origin, mend=mend)
        raise unknown_setting(key, value, [known for name in sections for known in _keys(name, values)])


def _sharing_llm(values: Layer) -> Layer:
    """The layer with the section `llm` in every configured role that has these settings and lacks them."""
    shared = {key.removeprefix("llm."): value for key, value in values.items() if key.startswith("llm.")}
    added: Layer = {}
    for role, backends in BACKENDS.items() if shared else ():
        backend = backends.get(_backend(role, values))
        fields = backend.config_class().model_fields if backend else {}
        if "base_url" in fields:
            added |= {f"{role}.{name}": value for name, value in shared.items() if name in fields}
    return added | values


_OF_THE_WEIGHTS = ("weights", "adapter", "revision", "tokenizer")


def _following_matcher(values: Layer) -> Layer:
    """The layer with the matcher's net as the tracer's, which explains it, in every setting that the tracer lacks.

    A tracer with weights of its own keeps what belongs to them.
    """
    backend = _backend("tracer", values)
    if backend == OFF or backend != _backend("matcher", values):
        return values
    matcher, tracer = f"matcher.{backend}.", f"tracer.{backend}."
    own = f"{tracer}weights" in values
    net = {key.removeprefix(matcher): value for key, value in values.items() if key.startswith(matcher)}
    followed = {f"{tracer}{key}": value for key, value in net.items() if not (own and key in _OF_THE_WEIGHTS)}
    return followed | values


def _keys(section: str, values: Layer) -> list[str]:
    """The valid dotted keys of a section, given its backend."""
    if section in _SECTIONS:
        return list(_dotted_keys(_SECTIONS[section], section))
    backend = BACKENDS[section].get(_backend(section, values))
    return [f"{section}.backend", *(_dotted_keys(backend.config_class(), section) if backend else ())]


def _dotted_keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Every setting of a model by its dotted key, including nested models."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _dotted_keys(inner, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}"


def _backend(role: str, values: Layer) -> str:
    """The backend named for a role; the first backend for a configured role without a name; else off."""
    named = values.get(f"{role}.backend")
    if named is not None:
        return str(named.value)
    configured = any(key.startswith(f"{role}.") for key in values)
    return next(iter(BACKENDS[role])) if configured else OFF


def _tool(role: str, values: Layer) -> ToolSettings | None:
    name = _backend(role, values)
    if name == OFF:
        return None
    if name not in BACKENDS[role]:
        valid = [*BACKENDS[role], OFF]
        mend = f"{suggest(name, valid)}backends: {', '.join(valid)}"
        raise NamepinError("E203", f"{role} has no backend {name!r}", where=values[f"{role}.backend"].origin, mend=mend)
    own = {key: value for key, value in values.items() if key != f"{role}.backend"}
    return ToolSettings(backend=name, config=_validate_section(BACKENDS[role][name].config_class(), own, role, values))


def _validate_section(model: type[_Model], values: Layer, section: str, everything: Layer | None = None) -> _Model:
    """One section's values as its model; errors name the setting, its origin and, for a typo, the nearest key."""
    own = {key: value for key, value in values.items() if key.startswith(f"{section}.")}
    valid = list(_dotted_keys(model, section))
    for key, value in own.items():
        # A key below or above a valid key has the wrong kind; the model's own error is clearer.
        if not any(key == known or key.startswith(f"{known}.") or known.startswith(f"{key}.") for known in valid):
            raise unknown_setting(key, value, _keys(section, everything or values))
    try:
        return model.model_validate(_nest(own, section))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join((section, *map(str, first["loc"])))
        near = own.get(key) or next((v for k, v in own.items() if key.startswith(k) or k.startswith(key)), None)
        where = near.origin if near else ""
        if first["type"] == "missing":
            raise NamepinError("E203", f"{key} is not set", where=where, mend=f"add --set {key}=...") from error
        message = f"{key}: {first['msg'].removeprefix('Value error, ')}"
        if isinstance(first["input"], str | int | float | bool) and near:
            message += f", not {first['input']!r}"
        raise NamepinError("E203", message, where=where, mend="give a value that fits") from error


def _nest(flat: Layer, section: str) -> dict[str, Any]:
    """The section's values as nested tables, for nested models."""
    table: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")[1:]
        inner = table
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise NamepinError("E203", f"{section}.{part} is not a section", where=value.origin)
        inner[last] = value.value
    return table
