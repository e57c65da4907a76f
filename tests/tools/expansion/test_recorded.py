"""Recorded expansions: found by post and name, missing and damaged rows said."""

import json
from pathlib import Path

import pytest

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.expansion.config import RecordedExpansionConfig
from namepin.tools.expansion.recorded import RecordedExpansion
from namepin.tools.interfaces import ExpandRequest
from namepin.tools.media import Media


def a_tool(tmp_path: Path, *rows: dict[str, str]) -> RecordedExpansion:
    file = tmp_path / "expansions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RecordedExpansion(RecordedExpansionConfig(file=str(file)))


ROW = {"id": "1", "post": "Ada flies", "text": "Ada", "expansion": "a woman  in blue"}


def test_recorded_expansion_by_post_and_name_returns_text_or_raises(tmp_path: Path) -> None:
    tool = a_tool(tmp_path, ROW, ROW | {"post": "Ada sings", "expansion": "a singer"})
    asked = [ExpandRequest(text=text, entity="Ada", label="PER") for text in ("Ada  flies", "Ada sings")]
    assert [one.text for one in tool.run(asked, Media())] == ["a woman in blue", "a singer"]
    with pytest.raises(ToolUnavailable, match="'Bo'"):
        tool.run([ExpandRequest(text="Ada flies", entity="Bo", label="PER")], Media())
    assert tool.fingerprint != a_tool(tmp_path, ROW).fingerprint == a_tool(tmp_path, ROW).fingerprint


def test_recorded_expansion_with_missing_file_or_bad_row_raises_e130_or_e134(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E130"):
        RecordedExpansion(RecordedExpansionConfig(file=str(tmp_path / "none")))
    with pytest.raises(NamepinError, match=r"E134.*jsonl:2"):
        a_tool(tmp_path, ROW, {"text": "x"})
