"""Settings: their sources, their precedence, and the errors for mistakes."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from namepin.agent.config.backends import BACKENDS
from namepin.agent.config.build import other_net
from namepin.agent.config.layers import parse_value, suggest
from namepin.agent.config.settings import Settings, load_settings
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.models.config import BlipConfig


def load(*assignments: str, profile: str | None = None, env: dict[str, str] | None = None, **over: Any) -> Settings:
    return load_settings(profile, assignments=assignments, overrides=over, environment=env or {})


def test_starter_settings_have_local_tools_only() -> None:
    settings = load()
    assert settings.profile == "starter"
    assert list(settings.tools) == ["tagger", "matcher", "tracer", "segmenter"]
    assert settings.requested == frozenset()
    assert (settings.gate.gamma, settings.gate.k) == (0.2, 5)


def test_settings_layers_override_in_documented_order(tmp_path: Path) -> None:
    profile = tmp_path / "own.toml"
    profile.write_text("[gate]\nk = 3\n[match]\nthreshold = 0.6\n")
    env = {"NAMEPIN_GATE__K": "9", "NAMEPIN_GATE__GAMMA": "0.9", "NAMEPIN_GATE__MARGIN": "0.5", "NAMEPIN_DATA": "x"}
    settings = load("match.threshold=0.7", "gate.margin=0.1", profile=str(profile), env=env, gate={"margin": 0.2})
    assert settings.gate.gamma == 0.9, "environment over default"
    assert settings.gate.k == 3, "profile over environment"
    assert settings.match.threshold == 0.7, "--set over profile"
    assert settings.gate.margin == 0.2, "flag over --set"


def test_load_settings_reads_profile_name_from_environment(tmp_path: Path) -> None:
    profile = tmp_path / "own.toml"
    profile.write_text("[gate]\nk = 3\n")
    assert load(env={"NAMEPIN_PROFILE": str(profile)}).gate.k == 3
    assert load(profile="starter", env={"NAMEPIN_PROFILE": str(profile)}).gate.k == 5


def test_knowledge_without_model_stays_off() -> None:
    assert "knowledge" not in load().tools
    half = load("knowledge.timeout_s=5")
    assert "knowledge" not in half.tools and half.requested == {"knowledge"}
    whole = load("knowledge.base_url=http://127.0.0.1:9/v1", "knowledge.model=12")
    assert whole.tools["knowledge"].backend == "starter"
    assert whole.tools["knowledge"].config.model_dump()["model"] == "12", "a text setting stays text"


@pytest.mark.parametrize(("role", "name"), [(role, name) for role in BACKENDS for name in BACKENDS[role]])
def test_backend_of_table_has_tool_and_config_class(role: str, name: str) -> None:
    backend = BACKENDS[role][name]
    assert callable(getattr(import_module(backend.module), backend.tool))
    assert backend.config_class()()


def test_settings_with_backend_off_drop_role() -> None:
    assert list(load("matcher.backend=off", "segmenter.backend=off").tools) == ["tagger", "tracer"]


def test_settings_overrides_nested_or_dotted_are_equal() -> None:
    assert load(gate={"gamma": 0.4}) == load(gate__gamma=0.4) == load("gate.gamma=0.4")


def test_settings_dump_reloads_to_equal_settings() -> None:
    settings = load("gate.gamma=0.4", "segmenter.backend=off")
    again = load_settings(settings.profile, base=settings.dump(), environment={"NAMEPIN_GATE__K": "2"})
    assert again == settings


@pytest.mark.parametrize(
    ("assignment", "code", "said"),
    [
        ("gate.gama=1", "E202", "did you mean gate.gamma?"),
        ("gamma=1", "E202", "did you mean gate.gamma?"),
        ("gat.gamma=1", "E202", "did you mean gate.gamma?"),
        ("matcher.scene.ocr.min_scor=x", "E202", "did you mean matcher.scene.ocr."),
        ("matcher.scene=1", "E203", "matcher.scene"),
        ("tagger.adaptor=x", "E202", "did you mean tagger.adapter?"),
        ("gate.gamma=high", "E203", "gate.gamma"),
        ("gate.gamma=-1", "E203", "greater than or equal to 0"),
        ("gate=1", "E203", "gate is a section"),
        ("tagger.backend=dul", "E203", "did you mean dual?"),
        ("reranker.wieghts=x", "E202", "did you mean reranker.weights?"),
        ("knowledge.base_url=http://127.0.0.1:9/v1", "E203", "--set knowledge.base_url"),
        ("graph=gme", "E203", "did you mean gem"),
        ("knowledge.api_key=sk-123456789", "E204", "OPENAI_API_KEY"),
        ("gate.gamma", "E202", "key=value"),
        ("=1", "E202", "key=value"),
        ("gate.gamma.x=1", "E203", "gate.gamma"),
    ],
)
def test_settings_with_wrong_assignment_raise_e20x_with_hint(assignment: str, code: str, said: str) -> None:
    with pytest.raises(NamepinError) as caught:
        load(assignment)
    assert caught.value.code == code
    assert said in str(caught.value)
    assert caught.value.exit_code == Exit.UNUSABLE
    assert "sk-123456789" not in str(caught.value), "a secret is never repeated"


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"[gate]\ngama = 1\n", "E202", "did you mean gate.gamma?"),
        (b"[gat]\ngamma = 1\n", "E202", "did you mean gate.gamma?"),
        (b"[gate\n", "E201", "line 1"),
        (b"\xff\xfe", "E201", "utf-8"),
        (b"[gate]\ngamma = 'x'\n", "E203", "gate.gamma"),
    ],
)
def test_profile_file_with_wrong_content_raises_with_path(tmp_path: Path, content: bytes, code: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(NamepinError) as caught:
        load(profile=str(file))
    assert caught.value.code == code
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"), [("startr", "did you mean starter?"), ("zz", "profiles: "), ("a/b", "no such")]
)
def test_load_settings_of_unknown_profile_suggests_nearest(name: str, said: str) -> None:
    with pytest.raises(NamepinError, match="E200") as caught:
        load(profile=name)
    assert said in str(caught.value)


def test_load_settings_with_misspelt_variable_raises_with_suggestion() -> None:
    with pytest.raises(NamepinError, match=r"NAMEPIN_GATE__GAMA.*did you mean gate\.gamma"):
        load(env={"NAMEPIN_GATE__GAMA": "1"})


@pytest.mark.parametrize(
    ("typed", "value"),
    [("0.4", "0.4"), ("null", None), ("[1, 2]", [1, 2]), ("[oops", "[oops"), ('"12"', "12"), ("true", "true")],
)
def test_parse_value_keeps_types_of_literals(typed: str, value: Any) -> None:
    assert parse_value(typed) == value


def test_suggest_without_near_match_returns_empty() -> None:
    assert suggest("zzzz", ["gate.gamma"]) == ""


def test_tracer_follows_the_matcher_unless_it_is_set() -> None:
    def net(*sets: str) -> Any:
        tracer = load_settings("gem", assignments=sets, environment={}).tools["tracer"].config
        return getattr(tracer, "blip", None) or getattr(tracer, "llava", None)

    assert net("matcher.blip.weights=mine", "matcher.blip.device=cpu") == BlipConfig(weights="mine", device="cpu")
    own = net("matcher.blip.weights=mine", "matcher.blip.revision=abc", "tracer.blip.weights=other")
    assert (own.weights, own.revision, own.device) == ("other", None, "cuda")
    both = ("matcher.backend=llava", "tracer.backend=llava", "matcher.llava.adapter=mine")
    assert net(*both).adapter == "mine"


def test_tracer_of_another_net_is_warned_of() -> None:
    def warning(*sets: str, profile: str = "gem") -> str:
        return other_net(load_settings(profile, assignments=sets, environment={}))

    assert not warning() and not warning("matcher.blip.weights=mine") and not warning(profile="starter")
    assert not warning("tracer.backend=off") and not warning(profile="riveg")
    assert warning("matcher.blip.weights=mine", "tracer.blip.weights=other").startswith(
        "W137: the matcher is blip mine, and the tracer explains blip other"
    )
    assert "explains blip Salesforce" in warning("matcher.backend=blip2")
