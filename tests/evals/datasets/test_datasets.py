"""The readers: published layouts and their possible problems."""

from pathlib import Path

import pytest

from namepin.evals.datasets import POSTS, READERS
from namepin.evals.datasets.conll import read_tagged_posts
from namepin.evals.datasets.masks import read_masks
from namepin.evals.datasets.tags import spans_of_tags
from namepin.evals.datasets.voc import read_boxes
from namepin.tools.errors import NamepinError
from support.eval_samples import XML, gmner_folder, write_rows


def test_gmner_reader_returns_tokens_types_and_boxes_of_exact_names(tmp_path: Path) -> None:
    data = READERS["gmner"](gmner_folder(tmp_path), "dev")
    first, second = data.posts
    assert first.post.text == "Angelina Jolie in Rome"
    assert [(e.text, e.label, e.span, e.token_span) for e in first.entities] == [
        ("Angelina Jolie", "PER", (0, 14), (0, 2)),
        ("Rome", "LOC", (18, 22), (3, 4)),
    ]
    assert first.entities[0].boxes == ((10, 10, 50, 60),) and first.entities[1].boxes == ()
    assert first.size == (100, 80)
    assert not second.entities and not data.problems


def test_gmner_reader_with_repeated_name_assigns_boxes_to_both(tmp_path: Path) -> None:
    text = "IMGID:1\nRome\tB-LOC\nRome\tB-LOC\n"
    data = READERS["gmner"](gmner_folder(tmp_path, text, XML.replace("Angelina Jolie", "Rome").format(more="")), "dev")
    assert [len(e.boxes or ()) for e in data.posts[0].entities] == [1, 1]
    assert data.posts[0].duplicates == 1


def test_gmner_reader_without_xml_has_no_boxes(tmp_path: Path) -> None:
    data = READERS["gmner"](gmner_folder(tmp_path, xml=None), "dev")
    assert not data.has_boxes and data.posts[0].entities[0].boxes is None


@pytest.mark.parametrize(
    ("tags", "spans", "broken"),
    [
        ("B-PER I-PER O", [(0, 2, "PER")], []),
        ("B-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")], []),
        ("O I-PER I-PER", [(1, 3, "PER")], [1]),
        ("B-PER I-LOC", [(0, 1, "PER"), (1, 2, "LOC")], [1]),
        ("B-PER X I-PER", [(0, 1, "PER"), (2, 3, "PER")], [1, 2]),
        ("B- O", [], [0]),
    ],
)
def test_spans_of_tags_with_broken_bio_equal_seqeval(
    tags: str, spans: list[tuple[int, int, str]], broken: list[int]
) -> None:
    assert spans_of_tags(tags.split()) == (spans, broken)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("IMGID:1\nword\n", 2),
        ("IMGID:1\nword\tO\textra\n", 2),
        ("word\tO\n", 1),
        ("IMGID:\nword\tO\n", 1),
        ("IMGID:1\n\tO\n", 2),
        ("IMGID:1\na\tO\n\nIMGID:1\nb\tO\n", 5),
    ],
)
def test_gmner_reader_with_malformed_line_reports_it_and_raises_e131(tmp_path: Path, text: str, line: int) -> None:
    data = READERS["gmner"](gmner_folder(tmp_path, text), "dev")
    fatal = [problem for problem in data.problems if problem.fatal]
    assert fatal[0].where.endswith(f"dev.txt:{line}")
    with pytest.raises(NamepinError, match="E131"):
        data.usable()


def test_read_tagged_posts_with_invalid_utf8_reports_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"IMGID:1\ngood\tO\nbad\xff\tO\n")
    rows, problems = read_tagged_posts(path, 1)
    assert rows[0].tokens == ("good",) and problems[0].where.endswith("a.txt:3")


def test_read_tagged_posts_keeps_unicode_line_separators_in_tokens(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffIMGID:1\r\na\u2028b\tO\r\n\xa0\tO\r\n".encode())
    rows, problems = read_tagged_posts(path, 1)
    assert rows[0].tokens == ("a\u2028b", "\xa0") and not problems


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("<object><name>Jolie</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>",
         "no mention"),
        ("<object><name>Rome</name><bndbox><xmin>9</xmin><ymin>1</ymin><xmax>9</xmax><ymax>2</ymax></bndbox></object>",
         "is empty"),
        ("<object><name>Rome</name><bndbox><xmin>x</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object>",
         "not a number"),
        ("<object><name>Rome</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>200</xmax><ymax>2</ymax></bndbox></object>",
         "leaves the 100x80 picture"),
        ("<object>", "unreadable XML"),
    ],
)  # fmt: skip
def test_gmner_reader_with_bad_xml_object_reports_e133(tmp_path: Path, more: str, what: str) -> None:
    data = READERS["gmner"](gmner_folder(tmp_path, xml=XML.format(more=more)), "dev")
    assert [p.code for p in data.problems] == ["E133"]
    assert what in data.problems[0].what and data.problems[0].where.endswith("1.xml")
    data.usable()


def test_read_boxes_with_xml_entity_reports_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation><x>&b;</x></annotation>')
    assert "unreadable" in read_boxes(path)[2][0].what


FMNERG = "IMGID:1\nRome\tB-location\tB-city\nAda\tB-person\tB-common_person\nB\tI-person\tI-common_person\n"


def test_fmnerg_reader_returns_coarse_and_fine_types_without_aliases(tmp_path: Path) -> None:
    (tmp_path / "txt_fine").mkdir()
    (tmp_path / "txt_fine" / "dev.txt").write_text(FMNERG)
    data = READERS["fmnerg"](tmp_path, "dev")
    assert [(e.label, e.fine) for e in data.posts[0].entities] == [("location", "city"), ("person", "person_other")]
    assert data.has_fine and not data.problems


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("Rome\tB-location\tB-actor", "does not belong"),
        ("Rome\tB-location\tO", "not in the scheme"),
        ("Rome\tB-location\tI-city", "do not follow"),
        ("Rome\tO\tB-city", "where the coarse one is 'O'"),
    ],
)
def test_fmnerg_reader_with_contradicting_fine_tag_reports_e132(tmp_path: Path, line: str, what: str) -> None:
    (tmp_path / "txt_fine").mkdir()
    (tmp_path / "txt_fine" / "dev.txt").write_text(f"IMGID:1\n{line}\n")
    problems = READERS["fmnerg"](tmp_path, "dev").problems
    assert [p.code for p in problems] == ["E132"] and what in problems[0].what


def test_smner_reader_unites_polygons_of_one_group(tmp_path: Path) -> None:
    shape = {"label": "Angelina Jolie", "points": [[0, 0], [4, 0], [4, 4], [0, 4]], "group_id": 1}
    other = shape | {"points": [[10, 0], [14, 0], [14, 4], [10, 4]]}
    alone = shape | {"group_id": None}
    gmner_folder(tmp_path)
    (tmp_path / "masks").mkdir()
    write_rows(tmp_path / "masks" / "1.json", [{"imageHeight": 10, "imageWidth": 20, "shapes": [shape, other, alone]}])
    data = READERS["smner"](tmp_path, "dev")
    masks = data.posts[0].entities[0].masks
    assert masks is not None and sorted(int(m.to_array().sum()) for m in masks) == [16, 32]
    assert data.posts[0].entities[1].masks == () and data.has_masks and data.name == "smner"


def test_sandbox_reader_returns_fine_types_boxes_and_masks(tmp_path: Path) -> None:
    gmner_folder(tmp_path)
    (tmp_path / "txt_fine").mkdir()
    fine = [
        "IMGID:1",
        "Angelina\tB-person\tB-actor",
        "Jolie\tI-person\tI-actor",
        "in\tO\tO",
        "Rome\tB-location\tB-city",
    ]
    write_rows(tmp_path / "txt_fine" / "dev.txt", fine)
    (tmp_path / "masks").mkdir()
    square = {"label": "Angelina Jolie", "points": [[0, 0], [4, 0], [4, 4], [0, 4]], "group_id": 1}
    write_rows(tmp_path / "masks" / "1.json", [{"imageHeight": 80, "imageWidth": 100, "shapes": [square]}])
    data = READERS["sandbox"](tmp_path, "dev")
    jolie, rome = data.posts[0].entities
    assert data.name == "sandbox" and data.has_masks and not data.problems
    assert (jolie.label, jolie.fine, rome.fine) == ("person", "actor", "city")
    assert jolie.boxes and jolie.masks and rome.boxes == () and rome.masks == ()


def test_read_masks_of_invalid_json_reports_e133(tmp_path: Path) -> None:
    masks, problems = read_masks(write_rows(tmp_path / "1.json", ["{"]))
    assert not masks and problems[0].code == "E133"


def test_twitter_reader_maps_valid_to_dev_and_misc_to_other(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("IMGID:1\nOscars\tB-MISC\n")
    assert READERS["twitter"](tmp_path, "dev").posts[0].entities[0].label == "OTHER"


def test_wnut17_reader_numbers_posts(tmp_path: Path) -> None:
    (tmp_path / "emerging.dev.conll").write_text("a\tO\n\t\nESB\tB-location\n")
    data = READERS["wnut17"](tmp_path, "dev")
    assert [gold.post.id for gold in data.posts] == ["emerging.dev-1", "emerging.dev-2"]
    assert data.posts[1].entities[0].label == "LOC"


BOX = [0, 0, 1, 1]


def test_jsonl_reader_accepts_offsets_and_token_spans(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "Ada met Bob.", "entities": [{"label": "PER", "start": 8, "end": 11, "boxes": [BOX]}]},
        {"id": "b", "tokens": ["Ada", "B"], "entities": [{"label": "PER", "token_span": [0, 2], "boxes": []}]},
    ]
    data = READERS["jsonl"](write_rows(tmp_path / "dev.jsonl", rows).parent, "dev").usable()
    assert [gold.entities[0].text for gold in data.posts] == ["Bob", "Ada B"]
    assert data.has_boxes and not data.has_masks


@pytest.mark.parametrize(
    "row",
    [
        "{",
        {"id": "a", "text": "Ada", "entities": [{"label": "PER"}]},
        {"id": "a", "text": "Ada", "entities": [{"label": "PER", "start": 0, "end": 9}]},
        {"id": "a", "text": "Ada", "entities": [{"label": "MAN", "start": 0, "end": 3}]},
        {"id": "a", "text": "", "entities": []},
    ],
)
def test_jsonl_reader_with_bad_row_reports_line(tmp_path: Path, row: object) -> None:
    good = {"id": "good", "text": "Ada", "entities": []}
    data = READERS["jsonl"](write_rows(tmp_path / "dev.jsonl", [good, row]).parent, "dev")
    assert data.problems[0].where.endswith("dev.jsonl:2") and data.problems[0].fatal


@pytest.mark.parametrize("name", list(READERS))
def test_readers_of_missing_split_raise_e130(tmp_path: Path, name: str) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NamepinError, match="E130"):
            READERS[name](root, "dev")


def test_dataset_only_keeps_listed_ids_or_raises_e135(tmp_path: Path) -> None:
    data = READERS["gmner"](gmner_folder(tmp_path), "dev")
    part = data.only({"2"})
    assert [gold.post.id for gold in part.posts] == ["2"] and part.release.endswith(", part")
    assert data.only({"1", "2"}).release == data.release
    with pytest.raises(NamepinError, match="E135.*99"):
        data.only({"1", "99"})


@pytest.mark.data
def test_gmner_release_dev_counts_equal_published_numbers(data_root: Path) -> None:
    """Groundable entities as in RiVEG's Table IV: 4733 in train, 991 in dev."""
    dev = READERS["gmner"](data_root / "gmner", "dev").usable()
    entities = [e for gold in dev.posts for e in gold.entities]
    assert dev.title.startswith("Twitter-GMNER v2.0 dev, 1500 posts")
    assert (len(entities), sum(e.groundable for e in entities)) == (2450, 991)
    assert not dev.problems


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "split", "title"),
    [
        ("fmnerg", "train", "Twitter-FMNERG train, 7000 posts"),
        ("fmnerg", "dev", "Twitter-FMNERG dev, 1500 posts"),
        ("fmnerg-test300", "dev", "Twitter-FMNERG test-300, 300 posts"),
    ],
)
def test_fmnerg_release_has_its_title_and_no_problem(data_root: Path, folder: str, split: str, title: str) -> None:
    fine = READERS["fmnerg"](data_root / folder, split).usable()
    assert fine.title.startswith(title) and not fine.problems


@pytest.mark.parametrize(
    ("name", "file", "columns", "headed"),
    [
        ("gmner", "txt/dev.txt", 1, True),
        ("fmnerg", "txt_fine/dev.txt", 2, True),
        ("smner", "txt/dev.txt", 1, True),
        ("sandbox", "txt_fine/dev.txt", 2, True),
        ("twitter", "valid.txt", 1, True),
        ("wnut17", "emerging.dev.conll", 1, False),
    ],
)
def test_post_stream_equals_posts_of_reader(tmp_path: Path, name: str, file: str, columns: int, headed: bool) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    words = [["Rome", "\u2028", "Bob"], ["x"], ["last"]]
    head = ["IMGID:7.jpg\n", "IMGID:8\n", "IMGID:9\n"] if headed else [""] * 3
    blocks = [
        top + "".join(word + "\tO" * columns + "\r\n" for word in post) for top, post in zip(head, words, strict=True)
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(blocks).rstrip("\r\n").encode())
    (tmp_path / "images").mkdir()
    expected = READERS[name](tmp_path, "dev").usable().posts
    assert list(POSTS[name](tmp_path, "dev")) == [(gold.where, gold.post) for gold in expected]
    assert [list(gold.post.tokens or ()) for gold in expected] == words
    path.write_bytes(path.read_bytes() + b"\nbad\xff\tO\n")
    with pytest.raises(NamepinError, match="E131.*UTF-8"):
        list(POSTS[name](tmp_path, "dev"))
    with pytest.raises(NamepinError, match="E130"):
        POSTS[name](tmp_path, "none")


def test_jsonl_post_stream_equals_posts_of_reader(tmp_path: Path) -> None:
    row = (
        '{"id": "%s", "text": "Rome", "image": "a.jpg", "k": 1, "entities": [{"label": "LOC", "start": 0, "end": 4}]}\n'
    )
    (tmp_path / "dev.jsonl").write_text(row % "1" + "\n" + row % "2")
    expected = READERS["jsonl"](tmp_path, "dev").usable().posts
    assert (
        list(POSTS["jsonl"](tmp_path, "dev")) == [(gold.where, gold.post) for gold in expected] and len(expected) == 2
    )
    (tmp_path / "dev.jsonl").write_text(row % "1" + "[1]")
    with pytest.raises(NamepinError, match="E131.*dev.jsonl:2"):
        list(POSTS["jsonl"](tmp_path, "dev"))


def test_post_streams_cover_every_reader() -> None:
    assert list(POSTS) == list(READERS)
