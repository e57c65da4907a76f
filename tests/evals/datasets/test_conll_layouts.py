"""Variants of CoNLL text."""

import gzip
from pathlib import Path

import pytest

from namepin.evals.datasets import POSTS, READERS
from namepin.evals.datasets.check import check_folder, detect
from namepin.evals.datasets.conll import read_ids
from namepin.tools.errors import NamepinError
from support.eval_samples import gmner_folder


def plain(folder: Path, data: str | bytes, name: str = "dev.conll") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


ADA = [(("Ada", "Example"), "PER"), (("Oslo",), "LOC")]


@pytest.mark.parametrize(
    "text",
    [
        "Ada B-PER\nExample I-PER\nin O\nOslo B-LOC\n",
        "Ada  NNP  B-NP B-PER\nExample NNP I-NP I-PER\nin IN B-PP O\nOslo NNP B-NP B-LOC\n",
        "-DOCSTART- -X- -X- O\n\nAda NNP B-NP I-PER\nExample NNP I-NP I-PER\nin IN B-PP O\nOslo NNP B-NP I-LOC\n",
        "Ada\tB-PER\r\nExample\tI-PER\r\nin\tO\r\nOslo\tB-LOC",
        "\ufeffAda\tB-person\nExample\tI-person\nin\tO\nOslo\tB-GPE\t\n",
        "Ada\tNNP\tB-PER\nExample\tNNP\tE-PER\nin\tIN\tO\nOslo\tNNP\tS-LOC\n\n\n",
        "Ada b-per\nExample i-per\nin o\nOslo b-loc\n",
        "IMGID:1\nAda\tB-PER\nExample\tL-PER\nin\tO\nOslo\tU-LOC\n",
    ],
)
def test_conll_reader_of_any_column_layout_returns_same_mentions(tmp_path: Path, text: str) -> None:
    data = READERS["conll"](plain(tmp_path, text), "dev").usable()
    (post,) = data.posts
    assert post.post.tokens == ("Ada", "Example", "in", "Oslo")
    assert [(tuple(entity.text.split()), entity.label) for entity in post.entities] == ADA
    assert all(problem.code == "W131" for problem in data.problems)
    assert [found.id for _, found in POSTS["conll"](tmp_path, "dev")] == [post.post.id]


def test_conll_reader_ids_come_from_imgid_or_position(tmp_path: Path) -> None:
    data = READERS["conll"](plain(tmp_path, "IMGID:7\nAda\tB-PER\n\nBob\tB-PER\n\nIMGID:9\n\nEve\tO\n"), "dev")
    assert [gold.post.id for gold in data.posts] == ["7", "dev-2", "9"]


def test_conll_line_without_token_is_skipped_with_w134(tmp_path: Path) -> None:
    data = READERS["conll"](plain(tmp_path, "Ada\tB-PER\n\tO\nBob\tB-PER\n"), "dev").usable()
    assert data.posts[0].post.tokens == ("Ada", "Bob")
    assert [(problem.code, problem.where[-6:]) for problem in data.problems] == [("W134", "onll:2")]


def test_conll_reader_with_tab_columns_keeps_blanks_in_tokens(tmp_path: Path) -> None:
    data = READERS["conll"](plain(tmp_path, "New York\tB-LOC\nIMGID:1\tO\n"), "dev").usable()
    assert data.posts[0].post.tokens == ("New York", "IMGID:1")


@pytest.mark.parametrize("tags", ["PER", "PER-B", "X-PER", "0"])
def test_gmner_reader_with_unknown_tag_raises_e132(tmp_path: Path, tags: str) -> None:
    data = READERS["gmner"](gmner_folder(tmp_path, f"IMGID:1\nAda\tB-PER\nBob\t{tags}\n", xml=None), "dev")
    with pytest.raises(NamepinError, match="E132.*BIOES.*dev.txt:3"):
        data.usable()


def test_conll_reader_of_iob1_reports_one_w131(tmp_path: Path) -> None:
    data = READERS["conll"](plain(tmp_path, "Ada\tI-PER\nBob\tB-PER\nin\tO\nOslo\tI-LOC\n"), "dev")
    assert [entity.text for entity in data.posts[0].entities] == ["Ada", "Bob", "Oslo"]
    assert [problem.code for problem in data.problems] == ["W131"] and "IOB1" in data.problems[0].what


@pytest.mark.parametrize(
    ("data", "form"),
    [
        ("IMGID:1\nAda\tB-PER\n".encode("utf-16"), "UTF-16"),
        ("IMGID:1\nAda\tB-PER\n".encode("utf-16-le"), "UTF-16"),
        ("IMGID:1\nAda\tB-PER\n".encode("utf-16-be"), "UTF-16"),
        ("IMGID:1\nAda\tB-PER\n".encode("utf-32"), "UTF-32"),
        (gzip.compress(b"IMGID:1\nAda\tB-PER\n", mtime=0), "gzip"),
        (b"IMGID:1\rAda\tB-PER\r", "CR alone"),
    ],
)
@pytest.mark.parametrize(("name", "file"), [("gmner", "txt/dev.txt"), ("conll", "dev.conll"), ("jsonl", "dev.jsonl")])
def test_readers_of_file_in_other_encoding_or_format_report_one_e131(
    tmp_path: Path, data: bytes, form: str, name: str, file: str
) -> None:
    (tmp_path / "txt").mkdir()
    (tmp_path / file).write_bytes(data)
    (problem,) = READERS[name](tmp_path, "dev").problems
    assert problem.fatal and problem.code == "E131" and form in problem.what
    with pytest.raises(NamepinError, match=form):
        list(POSTS[name](tmp_path, "dev"))


def test_gmner_reader_without_imgid_suggests_conll_dataset(tmp_path: Path) -> None:
    data = READERS["gmner"](gmner_folder(tmp_path, "Ada\tB-PER\nBob\tB-PER\n", xml=None), "dev")
    (problem,) = data.problems
    assert "--dataset conll" in problem.what and problem.where.endswith("dev.txt:1")


def test_check_folder_of_plain_conll_files_treats_each_as_split(tmp_path: Path) -> None:
    plain(tmp_path, "Ada\tB-PER\n", "a.conll")
    plain(tmp_path, "Ada\tB-PER\n\nOslo\tB-LOC\n", "b.conll")
    check = check_folder(tmp_path)
    assert (check.dataset, {split: found.posts for split, found in check.splits.items()}) == ("conll", {"a": 1, "b": 2})
    assert detect(plain(tmp_path / "named", "IMGID:1\nAda\tB-PER\n", "train.txt")) == "twitter"
    assert detect(plain(tmp_path / "bare", "Ada\tB-PER\n", "train.txt")) == "conll"


def test_read_ids_accepts_utf8_bom_and_rejects_utf16(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_bytes("\ufeff1\r\n2\r\n".encode())
    assert read_ids(file) == {"1", "2"}
    file.write_bytes("1\n2\n".encode("utf-16"))
    with pytest.raises(NamepinError, match="E130.*UTF-16"):
        read_ids(file)


def test_gmner_reader_finds_boxes_of_id_with_suffix(tmp_path: Path) -> None:
    data = READERS["gmner"](gmner_folder(tmp_path, "IMGID:1.jpg\nAngelina\tB-PER\nJolie\tI-PER\n"), "dev")
    assert data.posts[0].entities[0].boxes == ((10, 10, 50, 60),)


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "posts"), [("a", 1000), ("b", 2000), ("e", 200), ("f", 2001), ("g", 2138), ("h", 2000)]
)
def test_conll_reader_of_broad_twitter_corpus_returns_every_post(data_root: Path, split: str, posts: int) -> None:
    data = READERS["conll"](data_root / "ccby" / "btc", split).usable()
    assert len(data.posts) == posts and {problem.code for problem in data.problems} <= {"W134", "E132"}


@pytest.mark.data
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_conll_reader_of_wnut17_equals_wnut17_reader(data_root: Path, split: str, tmp_path: Path) -> None:
    own = READERS["wnut17"](data_root / "ccby" / "wnut17", split).usable()
    text = own.posts[0].where.rpartition(":")[0]
    (tmp_path / "x.conll").write_bytes(Path(text).read_bytes())
    other = READERS["conll"](tmp_path, "x").usable()
    assert [gold.entities for gold in own.posts] == [gold.entities for gold in other.posts] and len(own.posts) > 900
