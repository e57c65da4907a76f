"""One rule for every JSONL file: lines, refused values, and output."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import (
    dump_json,
    dump_line,
    parse_json,
    read_lines,
    read_placed_rows,
    read_rows,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class Person(BaseModel):
    """A row."""

    name: str


@given(st.lists(VALUES, max_size=5))
def test_read_lines_roundtrip_of_dump_line_equals_values(values: list[Any]) -> None:
    assert [line.parse() for line in read_lines(b"".join(map(dump_line, values)))] == values


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"], ids=ascii)
def test_read_lines_ends_lines_at_line_feed_only(char: str) -> None:
    text = json.dumps({"text": f"a{char}b"}, ensure_ascii=False)
    assert [line.parse() for line in read_lines(f"{text}\r\n{text}".encode())] == [{"text": f"a{char}b"}] * 2


@pytest.mark.parametrize("kind", ["file", "bytes", "stream"])
def test_read_lines_skips_blank_lines_and_counts_them(tmp_path: Path, kind: str) -> None:
    data = b'\xef\xbb\xbf{"a": 1}\n\n \t\r\n{"a": 2}'
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    source = {"file": path, "bytes": data, "stream": io.BytesIO(data)}[kind]
    lines = list(read_lines(source))
    name = f"{path}:" if kind == "file" else "line "
    assert [(line.where, line.parse_object()) for line in lines] == [(f"{name}1", {"a": 1}), (f"{name}4", {"a": 2})]


def test_read_lines_byte_order_mark_alone_is_blank() -> None:
    assert list(read_lines(b"\xef\xbb\xbf\r\n")) == []


def test_line_beyond_max_bytes_is_refused_and_next_one_parses() -> None:
    rows = b"[" + b"1," * 50 + b"1]\n[2]\n"
    long, short = read_lines(rows, max_bytes=20)
    assert len(long.data) == 21 and (short.number, short.parse()) == (2, [2])
    with pytest.raises(ValueError, match="more than 20 bytes"):
        long.parse()
    exact = next(read_lines(b"[1234]\n", max_bytes=7))
    assert exact.parse() == [1234]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\xfe{\x00", "not UTF-8: byte 0xff at position 0"),
        (b'{"a": "\xe9"}', "not UTF-8: byte 0xe9 at position 7"),
        (b"{", "not JSON"),
        (b"[NaN]", "NaN is not a finite number"),
        (b"[-Infinity]", "-Infinity is not a finite number"),
        (b"[1e999]", "1e999 is not a finite number"),
        (b"[" * 200_000, "nested too deeply"),
        (b"9" * 6000, "digits"),
    ],
)
def test_parse_json_of_invalid_data_raises_value_error(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(data)


def test_parse_object_of_other_value_raises_value_error() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        next(read_lines(b"[1]")).parse_object()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{}", "E134: not a person: name: Field required (%s:2); give a name"),
        ("7", "E134: not a person: not a JSON object (%s:2); give a name"),
        ('{"name": NaN}', "E134: not a person: not JSON: NaN is not a finite number (%s:2); give a name"),
    ],
)
def test_read_rows_with_invalid_row_raises_e134_with_file_and_line(tmp_path: Path, row: str, says: str) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text('{"name": "Ada"}\n' + row, "utf-8")
    rows = read_rows(path, Person.model_validate, "a person", "give a name")
    assert next(rows).name == "Ada"
    with pytest.raises(NamepinError) as caught:
        next(rows)
    assert str(caught.value) == says % path


def test_read_rows_with_missing_key_raises_e134_with_key(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text("{}", "utf-8")
    with pytest.raises(NamepinError, match="E134: not a person: 'name' is missing"):
        list(read_placed_rows(path, lambda row: str(row["name"]), "a person"))


def test_read_rows_of_unreadable_file_raises_e130(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E130"):
        list(read_rows(tmp_path, dict, "a row"))


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_dump_json_of_non_finite_number_raises_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dump_json(value)


def test_dump_line_lone_surrogate_is_escaped_and_other_text_is_not() -> None:
    assert dump_line({"a": "é\u2028"}) == '{"a": "é\u2028"}\n'.encode()
    assert json.loads(dump_line("\ud800é")) == "\ud800é"
