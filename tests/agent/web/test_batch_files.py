"""The files of a batch job: tables, pictures and ZIPs, each line by itself."""

import base64
import io
import json
import stat
import zipfile
import zlib
from collections.abc import Mapping

import pytest

from namepin.agent.web import batch_files
from namepin.agent.web.batch_files import UploadBounds, UploadedFile, read_upload
from namepin.tools.errors import NamepinError
from support.paths import ROOT

PICTURE = (ROOT / "examples" / "astronaut.jpg").read_bytes()
BOUNDS = UploadBounds(posts=5, unpacked=2**20)
ROW = b'{"text": "Oslo"}'


def packed(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> UploadedFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return UploadedFile("tour.zip", buffer.getvalue())


def test_read_upload_decodes_pictures_and_bounds_rows() -> None:
    rows = [{"text": "x", "image": base64.b64encode(PICTURE).decode()}, {"tokens": ["y"]}]
    table = UploadedFile("a.jsonl", "\n".join(map(json.dumps, rows)).encode())
    posts, source = read_upload([table], BOUNDS)
    assert [(post.row["id"], post.picture) for post in posts] == [("line-1", PICTURE), ("line-2", None)]
    assert source.name == "a.jsonl" and source.places == ("line 1", "line 2")
    with pytest.raises(NamepinError, match="E108"):
        read_upload([UploadedFile("a.jsonl", ROW + b"\n" + ROW.join([b"\n"] * 7))], BOUNDS)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_read_upload_of_csv_takes_its_columns_and_named_pictures(separator: str) -> None:
    lines = [["id", "text", "image", "likes"], ["a", '"Ada, ""Bob""; Eve"', "photos/me.jpg", "7"], ["b", "Oslo"], [""]]
    table = UploadedFile("posts.csv", "\r\n".join(separator.join(cells) for cells in lines).encode("utf-8-sig"))
    posts, source = read_upload([UploadedFile("me.jpg", PICTURE), table], BOUNDS)
    assert [post.row["text"] for post in posts] == ['Ada, "Bob"; Eve', "Oslo"]
    assert posts[0].row["extra"] == {"likes": "7"} and posts[0].picture == PICTURE and posts[1].picture is None
    assert source.name == "posts.csv and 1 more" and source.places == ("line 2", "line 3")


def test_read_upload_with_bad_lines_reads_the_others() -> None:
    lines = [ROW, b"{", b'{"id": "a", "text": "Rome"}', b'{"id": "a", "text": "Bonn"}', b'{"text": " "}']
    lines += [b'{"text": "x", "image": "gone.jpg"}', b'{"text": "y", "image_path": "/etc/passwd"}']
    posts, source = read_upload([UploadedFile("a.jsonl", b"\n".join(lines))], BOUNDS)
    assert [post.row["text"] for post in posts] == ["Oslo", "Rome"]
    told = {one.where: one.message for one in source.skipped}
    assert list(told) == ["line 2", "line 4", "line 5", "line 6", "line 7"] and source.skipped_count == 5
    assert told["line 6"].startswith("Its picture 'gone.jpg' is not among the files.")
    assert told["line 7"] == "There is no field image_path. Rename it to image. (E103)"


def test_read_upload_of_zip_finds_pictures_beside_the_table_first() -> None:
    other = (ROOT / "examples" / "rocket.jpg").read_bytes()
    row = json.dumps({"text": "x", "image": "me.jpg"}).encode()
    files = {"in/posts.jsonl": row, "in/me.jpg": PICTURE, "me.jpg": other, "__MACOSX/in/._me.jpg": b"x", "in/.DS": b"x"}
    posts, source = read_upload([packed(files)], BOUNDS)
    assert [post.picture for post in posts] == [PICTURE]
    assert source.name == "tour.zip" and source.skipped_count == 0


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..\\..\\a.jpg", "C:\\a.jpg", "b\x00a.jpg", "a" * 900]
)
def test_read_upload_of_zip_with_hostile_names_only_looks_them_up(name: str) -> None:
    row = json.dumps({"text": "x", "image": name}).encode()
    posts, source = read_upload([packed({"posts.jsonl": ROW + b"\n" + row, name: b"not a picture"})], BOUNDS)
    assert [post.picture for post in posts] == [None], "it is no picture, whatever its name"
    assert source.skipped[0].where == "line 2"


def test_read_upload_of_zip_bomb_stops_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = packed({"posts.jsonl": ROW, "big.jpg": bytes(2**26)})
    assert len(bomb.data) < 2**17
    asked: list[int] = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: (asked.append(n), read(self, n))[1])
    with pytest.raises(NamepinError, match="E108.*at most 1 MB"):
        read_upload([bomb], BOUNDS)
    assert max(asked) <= BOUNDS.unpacked + 1, "the rest is never unpacked"


def test_read_upload_of_zip_with_false_size_counts_what_is_read() -> None:
    data = bytearray(packed({"posts.jsonl": ROW * 70_000}).data)
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (16).to_bytes(4, "little")  # the directory claims 16 bytes
    with pytest.raises(NamepinError, match="line 1|damaged"):
        read_upload([UploadedFile("a.zip", bytes(data))], UploadBounds(posts=5, unpacked=100))


def test_read_upload_of_zip_with_too_many_entries_raises_e108(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_files, "MAX_FILES", 3)
    with pytest.raises(NamepinError, match="E108"):
        read_upload([packed({f"{n}.jpg": b"" for n in range(4)})], BOUNDS)
    with pytest.raises(NamepinError, match="E108"):
        read_upload([UploadedFile(f"{n}.jpg", b"") for n in range(4)], BOUNDS)


def test_read_upload_of_zip_reports_links_locked_and_rare_entries() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("posts.jsonl", ROW)
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("rare.jpg", PICTURE, zipfile.ZIP_LZMA)
        archive.writestr("locked.jpg", PICTURE)
    data = bytearray(buffer.getvalue())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the flag of an encrypted entry
    posts, source = read_upload([UploadedFile("a.zip", bytes(data))], BOUNDS)
    assert len(posts) == 1
    told = {one.where: one.message for one in source.skipped}
    assert "link" in told["link.jpg"] and "compression" in told["rare.jpg"] and "encrypted" in told["locked.jpg"]


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([UploadedFile("a.zip", b"PK\x03\x04 damaged")], "E104"),
        ([UploadedFile("a.zip", packed({}).data)], "E104"),
        ([UploadedFile("me.jpg", PICTURE), UploadedFile("you.jpg", PICTURE)], "E104"),
        ([UploadedFile("a.csv", b"id,body\na,b\n")], "E104"),
        ([UploadedFile("a.csv", b'id,text\na,"b')], "E103"),
        ([UploadedFile("a.csv", b"id,text\na,b,c,d\n")], "E103"),
        ([UploadedFile("a.csv", b"\xff\xfetext")], "E104"),
        ([packed({"inner.zip": packed({"posts.jsonl": ROW}).data})], "E103"),
    ],
)
def test_read_upload_without_posts_raises_coded_error(files: list[UploadedFile], code: str) -> None:
    with pytest.raises(NamepinError, match=code):
        read_upload(files, BOUNDS)


def test_read_upload_of_zip_with_any_byte_changed_ends_in_posts_or_coded_error() -> None:
    whole = packed({"posts.jsonl": ROW, "me.jpg": zlib.compress(b"x")}).data
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 0xFF
        try:
            posts, _ = read_upload([UploadedFile("a.zip", bytes(data))], BOUNDS)
            assert posts
        except NamepinError as error:
            assert error.code.startswith("E1")
