"""Building tools: errors about weights of the hub name the command that fetches them."""

from typing import Any

import pytest
from pydantic import BaseModel

from namepin.agent.config.backends import Backend
from namepin.agent.config.build import build_tool
from namepin.agent.config.settings import load_settings
from namepin.tools.errors import NamepinError

PULL = "`namepin pull google/owlv2-base-patch16-ensemble` fetches or repairs it"


@pytest.mark.parametrize(
    ("code", "mend", "expected"),
    [
        *((code, "copy it", f"copy it; {PULL}") for code in ("E210", "E211", "E212", "E213", "E214", "E218")),
        ("E213", "run `namepin pull x/y`", "run `namepin pull x/y`"),
        ("E216", "set device to cpu", "set device to cpu"),
    ],
)  # fmt: skip
def test_build_tool_with_unusable_weights_names_pull(
    monkeypatch: pytest.MonkeyPatch, code: str, mend: str, expected: str
) -> None:
    def fail(self: Backend, config: BaseModel) -> Any:
        raise NamepinError(code, "no", mend=mend)

    monkeypatch.setattr(Backend, "build", fail)
    with pytest.raises(NamepinError) as caught:
        build_tool("matcher", load_settings("laptop", environment={}).tools["matcher"])
    assert caught.value.mend == expected and str(caught.value) == f"{code}: no; {expected}" == caught.value.args[0]


def test_build_tool_with_local_or_shipped_weights_names_no_pull(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Backend, config: BaseModel) -> Any:
        raise NamepinError("E211", "no", mend="copy it again")

    monkeypatch.setattr(Backend, "build", fail)
    for profile, role in (("starter", "tagger"), ("sandbox", "matcher")):
        with pytest.raises(NamepinError) as caught:
            build_tool(role, load_settings(profile, environment={}).tools[role])
        assert caught.value.mend == "copy it again"
