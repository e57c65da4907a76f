"""`python .ci/prose.py [FILE]...`: the documentation's spelling (codespell), words (words.toml), sentences and form.

Code blocks, code in backticks, links' addresses and quotations are left out. Exits 1 and lists file, line and remedy if
something is found.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/**/*.md", "examples/*.md")
WORDS = tomllib.loads((Path(__file__).parent / "words.toml").read_text("utf-8"))

WIDTH = 100
"""Largest width of a line of prose; tables, code, and lines that are one picture are left out."""
LONGEST = 28
"""Largest number of words of a sentence; a colon and a semicolon end one, too."""

_FENCE = re.compile(r"^\s*(```|~~~)")
_CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|<[^>]+>|https?://\S+|“[^”]*”|\"[^\"]*\"")

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_PAGE = re.compile(r"(?<!\[)\bdocs/\w+\.md\b")
_ITEM = re.compile(r"\s*(?:[-*]|\d\.) ")
_END = re.compile(r"(?<=[.!?:;])[)”\"*_]*\s+")


def pages(given: list[str]) -> list[Path]:
    """The files to read: the given ones, or all pages."""
    return [Path(name) for name in given] or sorted({path for form in PAGES for path in ROOT.glob(form)})


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a page without code, by number."""
    inside = False
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside and not line.startswith("    "):
            yield number, _CODE.sub(" ", line)


def unwanted(path: Path) -> Iterator[str]:
    """The unwanted words of a page, each with its place and what to write."""
    found = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, WORDS["instead"])) + r")(?![\w-])", re.IGNORECASE)
    for number, line in prose(path):
        for match in found.finditer(line):
            yield f"{path}:{number}: {match[1]}: {WORDS['instead'][match[1].lower()]}"


def passages(path: Path) -> Iterator[tuple[int, str]]:
    """The paragraphs and list items of a page by their first lines; headings, tables and code are left out."""
    inside, first, words = False, 0, list[str]()
    for number, line in enumerate([*path.read_text("utf-8").split("\n"), ""], 1):
        fence = _FENCE.match(line) is not None
        inside ^= fence
        prose = not (inside or fence or not line.strip() or line.lstrip().startswith(("|", "#", "<")))
        if words and (not prose or _ITEM.match(line)):
            yield first, " ".join(words)
            words = []
        if prose:
            first = first if words else number
            words.append(line.strip())


def misshapen(path: Path) -> Iterator[str]:
    """The lines of a page that are too wide, or name a page of the documentation without a link to it."""
    wide = {number for number, line in enumerate(path.read_text("utf-8").split("\n"), 1) if len(line) > WIDTH}
    for number, line in prose(path):
        if number in wide and not line.lstrip().startswith(("|", "!", "#")):
            yield f"{path}:{number}: wider than {WIDTH}: wrap it"
        if page := _PAGE.search(line):
            yield f"{path}:{number}: {page[0]}: make it a link"


def long_sentences(path: Path) -> Iterator[str]:
    """The sentences of a page with more than `LONGEST` words; code counts as one word, an address as none."""
    for number, text in passages(path):
        for sentence in _END.split(_LINK.sub(r"\1", re.sub("`[^`]*`", "code", text))):
            count = sum(any(map(str.isalnum, word)) for word in sentence.split())
            if count > LONGEST:
                yield f"{path}:{number}: a sentence of {count} words: split it: {sentence[:60]}..."


def misspelt(files: list[Path]) -> list[str]:
    """What codespell would correct."""
    right = ",".join(WORDS["right"]["words"])
    command = [sys.executable, "-m", "codespell_lib", "--ignore-words-list", right, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()


def main() -> int:
    """Print what is found."""
    files = pages(sys.argv[1:])
    found = [line for path in files for line in (*unwanted(path), *misshapen(path), *long_sentences(path))] + misspelt(
        files
    )
    print("\n".join(found) or f"prose: {len(files)} pages, nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
