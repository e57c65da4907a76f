"""Profile modern: every role on one server, and the error for a model with unknown box coordinates."""

import pytest

from namepin.agent.config.settings import load_settings
from namepin.tools.errors import NamepinError


def test_modern_profile_uses_one_chat_server_and_sam2() -> None:
    settings = load_settings("modern", environment={})
    tools = settings.tools
    assert settings.graph == "riveg" and settings.requested == frozenset()
    served = ("captioner", "knowledge", "reranker", "describer", "expansion", "entailment")
    assert {role: tool.backend for role, tool in tools.items()} == {
        **dict.fromkeys(served, "chat"), "tagger": "dual", "grounder": "mmgdino", "segmenter": "sam2",
    }  # fmt: skip
    told = [tools[role].config.model_dump() for role in served]
    assert len({(one["model"], one["base_url"]) for one in told}) == 1


def test_chat_grounder_of_unknown_model_without_frame_raises_e203() -> None:
    with pytest.raises(NamepinError, match="E203.*set `frame`"):
        load_settings(
            "starter", environment={}, overrides={"graph": "riveg", "grounder": {"backend": "chat", "model": "gpt-4o"}}
        )
    frames = load_settings(
        "modern", environment={}, overrides={"grounder": {"backend": "chat", "model": "m", "frame": "pixels"}}
    )
    assert frames.tools["grounder"].config.model_dump()["frame"] == "pixels"
