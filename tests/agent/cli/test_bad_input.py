"""Bad input, every kind: a good answer or one clear line, and the right exit code."""

import json
import re
import socket
from pathlib import Path

import pytest
from PIL import Image

from support.agent_samples import image_bytes
from support.cli import Cli

POST = "Eileen Collins commanded the Space Shuttle for NASA"
TEXT_ONLY = ("--set", "matcher.backend=off", "--set", "tracer.backend=off", "--set", "segmenter.backend=off")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of awkward files."""
    folder = tmp_path_factory.mktemp("files")
    grey = Image.linear_gradient("L")
    good = image_bytes(grey)
    contents = {
        "one.png": image_bytes(Image.new("RGB", (1, 1), "red")),
        "bomb.png": image_bytes(Image.new("1", (20_000, 20_000))),
        "cmyk.jpg": image_bytes(Image.merge("CMYK", [grey] * 4), "JPEG"),
        "deep.png": image_bytes(Image.frombytes("I;16", (64, 64), bytes(range(256)) * 32)),
        "cut.png": good[: len(good) // 2],
        "empty.png": b"",
        "notes.png": b"these are only words",
        "good.png": good,
        "mixed.jsonl": b'{"id": "a", "text": "Ada in Oslo", "image": "nowhere.png"}\n{"id": "b", "text": "\\u200b"}\n',
        "missing.jsonl": b'{"id": "a", "text": "Ada in Oslo", "image": "nowhere.png"}\n',
        "broken.jsonl": b'{"id": "a", "text": "Ada"}\n{"id": "b", \n',
        "empty.jsonl": b'{"id": "a", "text": ""}\n',
        "own.jsonl": b'{"id": "good", "text": "Ada in Oslo", "image": "good.png"}\n',
        "list.jsonl": b"[1]\n",
        "twice.jsonl": b'{"id": "a", "text": "Ada"}\n{"id": "a", "text": "Bo"}\n',
        "blank.jsonl": b"\n\n",
        "typed.jsonl": b'{"id": [7], "text": "Ada"}\n',
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


ANSWERED = {
    "fifty thousand characters": (("extract", "-", *TEXT_ONLY), ("commander " * 5_000).encode(), ""),
    "only emoji": (("extract", "🚀😹🎉", *TEXT_ONLY), b"", ""),
    "right to left": (("extract", "زارت إيلين كولينز مدينة القاهرة", *TEXT_ONLY), b"", ""),
    "direction override": (("extract", "Ada \u202eelpmaxE\u202c in Oslo", *TEXT_ONLY), b"", ""),
    "NUL bytes": (("extract", "-", *TEXT_ONLY), b"Ada\0Example in Oslo\n", "W104"),
    "invalid UTF-8": (("extract", "-", *TEXT_ONLY), b"Ada Example in Z\xfcrich", "W104"),
    "byte order mark": (("extract", "-", *TEXT_ONLY), b"\xef\xbb\xbfAda in Oslo\r\n", ""),
    "no picture": (("extract", POST), b"", ""),
    "a picture of one pixel": (("extract", POST, "--image", "{files}/one.png"), b"", ""),
    "CMYK": (("extract", POST, "--image", "{files}/cmyk.jpg"), b"", ""),
    "16 bits a channel": (("extract", POST, "--image", "{files}/deep.png"), b"", ""),
    "a post's own picture is missing": (("extract", "--posts", "{files}/missing.jsonl", *TEXT_ONLY), b"", "W101"),
    "a server that is down": (
        (
            *("extract", POST, *TEXT_ONLY, "--set", "knowledge.model=x", "--set", "knowledge.retries=0"),
            *("--set", "knowledge.base_url=http://127.0.0.1:9/v1", "--set", "knowledge.cache=false"),
        ),
        b"",
        "W103",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
def test_extract_with_unusual_input_answers_with_warning_code(cli: Cli, files: Path, name: str) -> None:
    arguments, stdin, warning = ANSWERED[name]
    ran = cli(*(a.replace("{files}", str(files)) for a in arguments), "--format", "json", stdin=stdin)
    assert ran.code == 0, ran.err
    assert "Traceback" not in ran.err
    (line,) = ran.out.splitlines()
    extraction = json.loads(line)
    codes = [notice["code"] for notice in extraction["warnings"]]
    if warning:
        assert warning in codes
    assert extraction["status"] == ("degraded" if warning in ("W101", "W103") else "ok")


REFUSED = {
    "empty text": (("extract", ""), b"", 2, "E101"),
    "blank text": (("extract", " \n\t"), b"", 2, "E101"),
    "invisible text": (("extract", "\u200b\u200d"), b"", 2, "E101"),
    "empty standard input": (("extract", "-"), b"\n", 2, "E101"),
    "endless text": (("extract", "-"), b"a" * 200_001, 2, "E102"),
    "no text at all": (("extract",), b"", 2, "E105"),
    "two sources": (("extract", POST, "--posts", "{files}/missing.jsonl"), b"", 2, "E105"),
    "picture for a file of posts": (
        ("extract", "--posts", "{files}/missing.jsonl", "--image", "{files}/good.png"), b"", 2, "E105"
    ),
    "missing picture": (("extract", POST, "--image", "{files}/nowhere.png"), b"", 2, "E120"),
    "a folder as picture": (("extract", POST, "--image", "{files}"), b"", 2, "E121"),
    "an empty picture": (("extract", POST, "--image", "{files}/empty.png"), b"", 2, "E122"),
    "words as picture": (("extract", POST, "--image", "{files}/notes.png"), b"", 2, "E123"),
    "half a picture": (("extract", POST, "--image", "{files}/cut.png"), b"", 2, "E124"),
    "decompression bomb": (("extract", POST, "--image", "{files}/bomb.png"), b"", 2, "E125"),
    "over the profile's own limit": (
        ("extract", POST, "--image", "{files}/good.png", "--set", "images.max_pixels=100"), b"", 2, "E125"
    ),
    "unknown profile": (("extract", POST, "--profile", "startr"), b"", 2, "did you mean starter?"),
    "typo in --set": (("extract", POST, "--set", "gate.gama=1"), b"", 2, "did you mean gate.gamma?"),
    "value that does not fit": (("extract", POST, "--set", "gate.gamma=much"), b"", 2, "E203"),
    "missing adapter": (("extract", POST, "--set", "tagger.adapter=/nowhere"), b"", 2, "E210"),
    "output folder is a file": (("extract", POST, "--out", "{files}/good.png"), b"", 2, "E500"),
    "output folder cannot be made": (("extract", POST, "--out", "/proc/namepin"), b"", 2, "E500"),
    "results over an input": (
        ("extract", "--posts", "{files}/own.jsonl", "--out", "{files}"), b"", 2, "would replace"
    ),
    "wrong flag": (("extract", POST, "--imge", "x"), b"", 2, "did you mean --image?"),
    "wrong choice": (("extract", POST, "--format", "jsn"), b"", 2, "(did you mean json?)"),
    "unknown ablation": (("ablate", "gem-tabel1"), b"", 2, "did you mean gem-table1?"),
    "unknown bench": (("bench", "startp"), b"", 2, "did you mean startup?"),
    "unknown backend of a recipe": (
        ("finetune", "reranker", "--set", "backend=llav"), b"", 2, "did you mean llava?"
    ),
    "batch into a file": (("batch", "{files}/own.jsonl", "--out", "{files}/good.png"), b"", 2, "E500"),
    "missing picture of a chat": (("chat", "--image", "{files}/nowhere.png"), b"", 2, "E120"),
    "flag without value": (("extract", "--image"), b"", 2, "requires an argument"),
    "unknown command": (("extrat", POST), b"", 2, "(did you mean extract?)"),
    "unknown recipe": (("finetune", "tager"), b"", 2, "(did you mean tagger?)"),
    "typo in a recipe": (("finetune", "tagger", "--set", "epoch=1"), b"", 2, "did you mean epochs?"),
    "missing file of posts": (("extract", "--posts", "{files}/nowhere.jsonl"), b"", 2, "E104"),
    "broken line": (("extract", "--posts", "{files}/broken.jsonl"), b"", 2, "broken.jsonl:2"),
    "empty text in a file": (("extract", "--posts", "{files}/empty.jsonl"), b"", 2, "E101"),
    "not an object": (("extract", "--posts", "{files}/list.jsonl"), b"", 2, "E103"),
    "an id that is a list": (("extract", "--posts", "{files}/typed.jsonl"), b"", 2, "E103"),
    "an id twice": (("extract", "--posts", "{files}/twice.jsonl"), b"", 2, "occurs twice"),
    "a file without posts": (("extract", "--posts", "{files}/blank.jsonl"), b"", 2, "E104"),
    "no cassette": (("replay", "{files}"), b"", 2, "E401"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_cli_with_bad_input_prints_one_coded_line(cli: Cli, files: Path, name: str) -> None:
    arguments, stdin, code, said = REFUSED[name]
    ran = cli(*(a.replace("{files}", str(files)) for a in arguments), stdin=stdin)
    assert (ran.code, ran.out) == (code, "")
    (line,) = ran.err.splitlines()
    assert re.match(r"error: E\d{3}: ", line)
    assert said in line


def test_serve_on_port_in_use_raises_e344_before_loading(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = cli("serve", "--port", port)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith(f"error: E344: cannot listen on 127.0.0.1:{port}: ") and ran.err.count("\n") == 1


def test_extract_with_one_failing_post_returns_others(cli: Cli, files: Path) -> None:
    ran = cli("extract", "--posts", files / "mixed.jsonl", "--format", "json", *TEXT_ONLY)
    assert ran.code == 1
    first, second = map(json.loads, ran.out.splitlines())
    assert (first["status"], second["status"]) == ("degraded", "failed")
    assert "E101" in second["warnings"][0]["message"]
