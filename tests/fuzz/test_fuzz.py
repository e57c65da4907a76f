"""Code that reads untrusted bytes never crashes: earlier findings, hypothesis, and a short run of atheris.

Longer runs: `python tests/fuzz/fuzz.py TARGET --seconds 600`; docs/reliability.md says what was run, and for how long.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from namepin.agent.config.layers import from_file
from namepin.agent.posts import read_posts
from namepin.evals.datasets.masks import read_masks
from namepin.evals.datasets.tags import spans_of_tags
from namepin.evals.datasets.voc import read_boxes
from namepin.tools.errors import NamepinError
from namepin.tools.types import Mask
from support.fuzz_targets import TARGETS

FUZZER = Path(__file__).with_name("fuzz.py")
SHORT = 3_000
"""Number of inputs of a target."""

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def _json_object(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return st.fixed_dictionaries({}, optional=fields).map(lambda row: json.dumps(row).encode())


points = st.lists(st.lists(st.floats() | st.integers(), max_size=3), max_size=5)
shape = st.fixed_dictionaries(
    {},
    optional={
        "label": values,
        "points": points | values,
        "group_id": values,
        "shape_type": st.sampled_from(["polygon", "rectangle", "circle"]) | values,
    },
)
side = st.integers(-1, 50) | values
FORMS: dict[str, st.SearchStrategy[bytes]] = {
    "posts": _json_object(id=values, text=values, tokens=values, extra=values, image=values, other=values),
    "tokens": st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    "conll": st.lists(st.sampled_from(["IMGID:1", "A\tB-PER", "b\tI-PER\tI-athlete", "", "\t", "c\tI-O", "\u2028\tO"]))
    .map("\n".join)
    .map(str.encode),
    "xml": st.lists(st.sampled_from(["<a>", "</a>", "<size>", "</size>", "<width>inf</width>", "&b;", "<!DOCTYPE a>"]))
    .map("".join)
    .map(str.encode),
    "labelme": _json_object(imageHeight=side, imageWidth=side, shapes=st.lists(shape, max_size=4) | values),
    "answers": _json_object(explanation=values, bbox_2d=values) | values.map(lambda row: json.dumps([row]).encode()),
    "profile": st.lists(
        st.sampled_from(["[gate]", "gamma = inf", "[a.b]", "[tagger]", "backend = 1", "x = [", "[[c]]"])
    )
    .map("\n".join)
    .map(str.encode),
    "rle": st.binary(min_size=2, max_size=2).flatmap(
        lambda head: st.text("".join(map(chr, range(47, 113))), max_size=12).map(lambda runs: head + runs.encode())
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_fuzz_target_with_any_bytes_holds(name: str) -> None:
    @settings(max_examples=150, suppress_health_check=list(HealthCheck), database=None)
    @given(st.binary(max_size=300) | FORMS[name])
    def holds(data: bytes) -> None:
        TARGETS[name].run(data)

    holds()


def test_fuzz_target_in_short_atheris_run_finds_no_crash(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="no coverage-guided fuzzer: pip install '.[fuzz]'")
    command = [sys.executable, str(FUZZER), *TARGETS, "--seconds", "0", "--inputs", str(SHORT)]
    command += ["--corpus", str(tmp_path / "corpus")]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    done = [int(number) for number in re.findall(r"number_of_executed_units: (\d+)", ran.stderr)]
    assert len(done) == len(TARGETS) and min(done) >= SHORT


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": "a", "text": "x", "extra": 5, "k": 1}',
        b'{"id": "a", "tokens": true}',
        DEEP,
        b'{"id": "a", "text": "x", "k": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_read_posts_with_invalid_line_raises_e103(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(line)
    with pytest.raises(NamepinError, match="E103"):
        list(read_posts(path))


@pytest.mark.parametrize(
    "table", [b"a = " + DEEP, b"[a." + b"a." * 5000 + b"a]\nb = 1", b"[serve]\nat_once = " + b"9" * 5000]
)
def test_from_file_with_hostile_profile_raises_e201(table: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(table)
    with pytest.raises(NamepinError, match="E201"):
        from_file(path)


def test_spans_of_tags_with_type_o_keeps_spans() -> None:
    assert spans_of_tags(["I-O", "O", "I-O"]) == ([(0, 1, "O"), (2, 3, "O")], [0, 2])


def test_read_boxes_with_unknown_encoding_reports_e133(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(b'<?xml version="1.0" encoding="x"?><a/>')
    size, boxes, [problem] = read_boxes(path)
    assert (size, boxes, problem.code) == (None, {}, "E133")


@pytest.mark.parametrize("side", ["inf", "0.5", "1e999", "-1", "nan"])
def test_read_boxes_with_invalid_size_returns_none(side: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation><size><width>{side}</width><height>9</height></size></annotation>")
    assert read_boxes(path) == (None, {}, [])


def test_read_masks_with_huge_coordinate_skips_shape(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    shapes = [{"label": "A", "points": [[int("9" * 400), 1], [1, 2], [3, 4]]}]
    path.write_text(json.dumps({"imageHeight": 9, "imageWidth": 9, "shapes": shapes}))
    masks, [problem] = read_masks(path)
    assert masks == {} and "shape 0 'A' is left out" in problem.what


def test_mask_with_huge_size_raises_validation_error() -> None:
    with pytest.raises(ValidationError, match="too large"):
        Mask.model_validate({"size": (100_000, 100_000), "counts": "0"})


BOMBS = {
    "laughs": '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]><a><object><name>&c;</name></object></a>',
    "file": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a><object><name>&b;</name></object></a>',
    "address": '<!DOCTYPE a [<!ENTITY b SYSTEM "http://127.0.0.1:9/x">]><a><object><name>&b;</name></object></a>',
    "parameter": '<!DOCTYPE a [<!ENTITY % b SYSTEM "file:///etc/passwd"> %b;]><a/>',
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_read_boxes_with_xml_entities_reports_e133(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(BOMBS[bomb])
    size, boxes, [problem] = read_boxes(path)
    assert (size, boxes, problem.code) == (None, {}, "E133") and "EntitiesForbidden" in problem.what
