"""The container's files name only what exists, and the container is not root."""

import re
import tomllib

import yaml

from support.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
SOURCES = "\n".join(file.read_text("utf-8") for folder in ("agent", "tools") for file in (ROOT / folder).rglob("*.py"))


def test_dockerfile_user_is_numeric_and_not_root() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.M)
    assert users and users[-1].isdigit() and int(users[-1]) > 0


def test_dockerfile_variables_are_read_by_the_code() -> None:
    names = set(re.findall(r"NAMEPIN_[A-Z_]+", DOCKERFILE))
    assert names >= {"NAMEPIN_DATA_DIR", "NAMEPIN_CACHE_DIR"}
    assert [name for name in names if name not in SOURCES] == []


def test_dockerfile_extras_and_pins_are_those_of_the_project() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for extra in re.findall(r'"\.\[(\w+)\]"', DOCKERFILE):
        assert extra in table["optional-dependencies"]
    assert re.findall(r'"(torch\S+)"', DOCKERFILE) == [table["dependencies"][0]]
    for package in re.findall(r"--no-deps (\S+)", DOCKERFILE):
        assert package in (ROOT / ".ci" / "lock.py").read_text("utf-8")


def test_compose_service_is_read_only_and_requires_tokens() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["namepin"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert "?" in service["environment"]["NAMEPIN_TOKENS"], "compose refuses to start without tokens"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_workflow_runs_the_same_script_as_local_ci() -> None:
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))["jobs"]["all"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]


def test_citation_names_both_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    titles = [work["title"] for work in citation["references"]]
    assert any("Granular Entity Mapper" in title for title in titles)
    assert any("LLM-Based Reformulation" in title for title in titles)
