"""Files of posts by other programs: read, or refused with one coded error; no key is dropped silently."""

import base64
import gzip
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from namepin.agent.batch.finished import FAILURES, PREDICTIONS
from namepin.agent.batch.source import Row, Source
from namepin.agent.batch.stages import Passage
from namepin.agent.posts import make_post
from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import read_lines
from support.batch_runs import ids, run, write_rows
from support.paths import ROOT

TWO = b'{"id": "1", "text": "Ada in Oslo"}\n{"id": "2", "text": "Bob in Paris"}\n'
PNG = (ROOT / "examples" / "chelsea.jpg").read_bytes()


def rows_of(path: Path, *, predictions: bool = False) -> list[Row]:
    return list(Source(str(path), predictions=predictions).rows())


def texts(path: Path) -> list[tuple[str, str]]:
    return [(row.post.id, row.post.text) for row in rows_of(path) if row.post]


def codes(path: Path) -> list[str]:
    return [row.error.code if row.error else "" for row in rows_of(path)]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.json", b'[{"id":"1","text":"Ada"},{"id":"2","text":"Bob"}]\n', "JSON array.*jq"),
        ("a.jsonl", b'\xef\xbb\xbf[\n {"id": "1",\n "text": "Ada"}\n]\n', "JSON array"),
        ("a.jsonl", TWO.decode().encode("utf-16"), "UTF-16.*iconv"),
        ("a.jsonl", TWO.decode().encode("utf-16-be"), "UTF-16"),
        ("a.jsonl", TWO.decode().encode("utf-16-le"), "UTF-16"),
        ("a.csv", "id,text\n1,Ada\n".encode("utf-16"), "UTF-16"),
        ("a.jsonl", TWO.decode().encode("utf-32"), "UTF-32"),
        ("a.xlsx", b"PK\x03\x04rest", "spreadsheet"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfdrest", "Zstandard"),
        ("a.jsonl.bz2", b"BZh91AY", "bzip2"),
        ("a.jsonl.xz", b"\xfd7zXZ\x00rest", "xz"),
        ("a.arrow", b"ARROW1\0\0", "Arrow"),
        ("a.sqlite", b"SQLite format 3\0", "SQLite"),
        ("a.pkl", b"\x80\x04\x95rest", "pickle"),
        ("a.csv", b"name,text\n1,Ada\n", "columns name, text; it needs id"),
        ("a.csv", b"", "columns"),
        ("a.csv", b"id,text,text\n1,Ada,Bob\n", "'text' twice"),
        ("a.jsonl.gz", gzip.compress(TWO, mtime=0)[:-12], "cannot be read"),
        ("a.jsonl.gz", gzip.compress(TWO, mtime=0)[:12] + b"x" * 40, "cannot be read"),
        ("a.parquet.gz", gzip.compress(b"PAR1rest", mtime=0), "Parquet in gzip"),
        ("a.parquet", b"PAR1nonsense", "not a Parquet file"),
        ("a.PARQUET", TWO, "not a Parquet file"),
    ],
)
def test_batch_with_file_of_other_kind_raises_e104_and_writes_nothing(
    tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(NamepinError, match=f"E104.*{words}") as refused:
        run(tmp_path / name, tmp_path / "out")
    assert refused.value.mend or "Parquet" in words
    assert not (tmp_path / "out" / PREDICTIONS).exists() or not ids(tmp_path / "out")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.JSONL", "a", "a.csv", "a.CSV.gz", "a.tsv", "a.txt"])
def test_batch_reads_jsonl_and_csv_plain_or_gzip(tmp_path: Path, name: str) -> None:
    data = {
        "csv": b"\xef\xbb\xbfid;text;image\n1;Ada in Oslo;\n2;Bob in Paris;\n",
        "tsv": b"id\ttext\n1\tAda in Oslo\n2\tBob in Paris",
    }
    kind = name.lower().removesuffix(".gz").rpartition(".")[2]
    plain = data.get(kind, TWO)
    (tmp_path / name).write_bytes(gzip.compress(plain) if name.endswith(".gz") else plain)
    assert texts(tmp_path / name) == [("1", "Ada in Oslo"), ("2", "Bob in Paris")]
    run(tmp_path / name, tmp_path / "out")
    assert ids(tmp_path / "out") == ["1", "2"]


def test_batch_reads_gzip_of_two_members_named_jsonl(tmp_path: Path) -> None:
    first, second = TWO.splitlines(keepends=True)
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(first) + gzip.compress(second))
    assert [name for name, _ in texts(tmp_path / "a.jsonl")] == ["1", "2"]


def test_source_of_csv_parses_quotes_tokens_and_extra_columns(tmp_path: Path) -> None:
    """Quoted delimiters and line ends, tokens, empty cells, further columns; bad rows are failures of their own."""
    lines = [
        "id,text,tokens,image,lang",
        '1,"Ada, in ""Oslo""",,,en',
        '2,"two\nlines",,a.png,',
        '3,,"[""Bob"", ""D""]",,',
        '4,,"[Bob",,',
        "5,one,,,en,more",
        "",
        "6,short",
        ",no id",
    ]
    (tmp_path / "a.csv").write_text("\r\n".join(lines), newline="")
    rows = rows_of(tmp_path / "a.csv")
    assert [row.post.id if row.post else row.error and row.error.code for row in rows] == [
        "1", "2", "3", "E103", "E103", "6", "E103",
    ]  # fmt: skip
    one, two, three = (row.post for row in rows[:3])
    assert one and one.text == 'Ada, in "Oslo"' and one.extra == {"lang": "en"} and one.image is None
    assert two and two.text == "two\nlines" and two.image == str(tmp_path / "a.png")
    assert three and three.tokens == ("Bob", "D")
    (tmp_path / "latin.csv").write_bytes("id,text\n1,Zürich\n2,Oslo\n".encode("latin-1"))
    assert codes(tmp_path / "latin.csv") == ["E103", ""]


def test_csv_with_thousands_of_columns_is_read(tmp_path: Path) -> None:
    header = ",".join([*(f"column-{number}" for number in range(10_000)), "id", "text"])
    (tmp_path / "a.csv").write_text(f"{header}\n{',' * 10_000}1,Ada in Oslo\n")
    assert texts(tmp_path / "a.csv") == [("1", "Ada in Oslo")]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ['"score": {}', '"a": [{{"b": {}}}]', '"extra": {{"score": {}}}'])
def test_batch_row_with_non_finite_number_fails_with_e103(tmp_path: Path, value: str, place: str) -> None:
    bad = f'{{"id": "1", "text": "Ada", {place.format(value)}}}'
    write_rows(tmp_path / "a.jsonl", [bad, {"id": "2", "text": "Bob"}])
    assert codes(tmp_path / "a.jsonl") == ["E103", ""]
    run(tmp_path / "a.jsonl", tmp_path / "out")
    for name in (PREDICTIONS, FAILURES):
        for line in read_lines(tmp_path / "out" / name):
            line.parse()  # strict JSON


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {"deep": [float("nan")]}])
def test_make_post_with_non_json_extra_raises_e103(value: Any) -> None:
    with pytest.raises(NamepinError, match="E103.*(finite|bytes)"):
        make_post({"id": "1", "text": "Ada", "extra": {"x": value}})


def test_source_with_integer_ids_converts_them_and_rejects_others(tmp_path: Path) -> None:
    rows = [
        {"id": 1503, "text": "a"},
        {"id": 2**70, "text": "b"},
        {"id": "1503", "text": "c"},
        {"id": True, "text": "d"},
    ]
    write_rows(
        tmp_path / "a.jsonl", [*rows, {"id": 1.5, "text": "e"}, {"id": None, "text": "f"}, {"id": 0, "text": "g"}]
    )
    assert [name for name, _ in texts(tmp_path / "a.jsonl")] == ["1503", str(2**70), "0"]
    assert codes(tmp_path / "a.jsonl") == ["", "", "E104", "E103", "E103", "E103", ""]


def test_batch_with_ids_of_different_case_or_unicode_form_keeps_them_apart(tmp_path: Path) -> None:
    names = ["a", "A", "é", "e\u0301", "a ", "ａ", "../a", "a/b", "\u2028"]
    write_rows(tmp_path / "a.jsonl", [{"id": name, "text": f"text of {name}"} for name in names])
    run(tmp_path / "a.jsonl", tmp_path / "out")
    assert run(tmp_path / "a.jsonl", tmp_path / "out")[1] == []
    found = [line.parse() for line in read_lines(tmp_path / "out" / PREDICTIONS)]
    assert [row["id"] for row in found] == names


def test_source_with_other_field_names_suggests_renaming(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"id_str": "1", "full_text": "Paris"}])
    (row,) = rows_of(tmp_path / "a.jsonl")
    assert row.error and row.error.what.endswith("; rename id_str to id, full_text to text")


def test_source_row_with_extraction_keys_keeps_them_in_extra(tmp_path: Path) -> None:
    tweet = {
        "entities": {"urls": [{"start": 3}]},
        "status": "published",
        "warnings": "none",
        "fingerprint": 7,
        "timings_ms": 1,
    }
    write_rows(
        tmp_path / "a.jsonl", [{"id": "1", "text": "Ada", **tweet}, {"id": "2", "text": "b", "entities": [{"x": 1}]}]
    )
    one, two = (row.post for row in rows_of(tmp_path / "a.jsonl"))
    assert one and one.extra == tweet and two and two.extra == {"entities": [{"x": 1}]}
    given = rows_of(tmp_path / "a.jsonl", predictions=True)
    assert given[1].given == ({"x": 1},) and given[1].post and given[1].post.extra == {}


def test_batch_predictions_as_input_parse_to_same_posts(tmp_path: Path) -> None:
    picture = ROOT / "examples" / "chelsea.jpg"
    write_rows(
        tmp_path / "a.jsonl", [{"id": "1", "text": "Ada", "image": str(picture), "k": 1}, {"id": "2", "text": "b"}]
    )
    run(tmp_path / "a.jsonl", tmp_path / "out")
    rows = rows_of(tmp_path / "out" / PREDICTIONS)
    assert [(row.post.id, dict(row.post.extra), row.post.image) for row in rows if row.post] == [
        ("1", {"k": 1}, None), ("2", {}, None),
    ]  # fmt: skip


def test_source_of_parquet_converts_columns_of_every_type(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "id": pyarrow.array([1, 2, 3], pyarrow.int64()),
        "text": ["Ada in Oslo", "Bob in Paris", "Cy in Rome"],
        "thumb": pyarrow.array([None, b"\xff\xd8\x00", None], pyarrow.binary()),
        "when": pyarrow.array([datetime(2026, 1, 2, tzinfo=UTC), None, None]),
        "price": pyarrow.array([None, Decimal("1.50"), None]),
        "tags": pyarrow.array([["a"], [], None]),
        "pairs": pyarrow.array([[("k", b"v")], None, None], pyarrow.map_(pyarrow.string(), pyarrow.binary())),
        "score": pyarrow.array([0.5, None, float("nan")]),
        "far": pyarrow.array([None, 570_000_000_000, None], pyarrow.timestamp("s")),
    }
    parquet.write_table(pyarrow.table({key: columns[key] for key in columns if key != "far"}), tmp_path / "a.PARQUET")
    one, two, three = rows_of(tmp_path / "a.PARQUET")
    assert (
        one.post
        and one.post.id == "1"
        and one.post.extra
        == {
            "when": "2026-01-02T00:00:00+00:00",
            "tags": ["a"],
            "pairs": [["k", base64.b64encode(b"v").decode()]],
            "score": 0.5,
        }
    )
    assert two.post and two.post.extra == {
        "thumb": base64.b64encode(b"\xff\xd8\x00").decode(),
        "price": "1.50",
        "tags": [],
    }
    assert three.error and "finite" in three.error.what
    run(tmp_path / "a.PARQUET", tmp_path / "out")
    assert ids(tmp_path / "out") == ["1", "2"]
    parquet.write_table(pyarrow.table(columns), tmp_path / "b.parquet")
    assert codes(tmp_path / "b.parquet") == ["", "E103", "E103"], "a date beyond Python's is one row's failure"


def test_source_of_parquet_reads_embedded_pictures(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    image = pyarrow.array(
        [
            {"bytes": PNG, "path": "x.jpg"},
            {"bytes": None, "path": "x.jpg"},
            {"bytes": b"no picture", "path": None},
            None,
        ],
        pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}),
    )
    names = ["1", "2", "3", "4"]
    parquet.write_table(pyarrow.table({"id": names, "text": names, "image": image}), tmp_path / "a.parquet")
    rows = rows_of(tmp_path / "a.parquet")
    assert [row.picture for row in rows] == [PNG, None, b"no picture", None]
    assert [row.post.image if row.post else "" for row in rows] == [None, str(tmp_path / "x.jpg"), None, None]
    assert Passage.of(rows[0]).row().picture == PNG
    parquet.write_table(pyarrow.table({"id": ["1"], "text": ["a"], "image": [PNG]}), tmp_path / "b.parquet")
    assert rows_of(tmp_path / "b.parquet")[0].picture == PNG
    write_rows(tmp_path / "c.jsonl", [{"id": "1", "text": "a", "image": {"url": "x"}}])
    assert codes(tmp_path / "c.jsonl") == ["E103"]
