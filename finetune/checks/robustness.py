"""Measure how a tagger reads posts that are written in other ways than its training posts.

`python -m namepin.finetune.checks.robustness --data DATA ADAPTER...` prints one table for each adapter: F1 without
knowledge on FMNERG dev as published and written anew, on the CC-BY tweets, and on names with an `&`. The shipped
adapters were pretrained on the CC-BY tweets, so those rows say how much of them is kept, not how well new tweets are
read.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from namepin.finetune.tagger.data import Example, Span, ccby_files, read_ccby, read_fmnerg
from namepin.finetune.tagger.train import span_f1
from namepin.tools.errors import in_one_line
from namepin.tools.interfaces import TagRequest
from namepin.tools.media import Media
from namepin.tools.tagger.adapter import TaggerSpec
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger

LEXICON = 0.2
"""The lexicon's weight in the profile `starter`."""

COMPANIES = ("AT&amp;T", "H&amp;M", "Johnson &amp; Johnson", "Barnes &amp; Noble", "Ernst &amp; Young", "P&amp;G")
FRAMES = (
    "{} cuts 3,000 jobs",
    "Just got hired by {} in Chicago!",
    "Why is {} so slow today? #fail",
    "RT @bob: {} rocks",
)
"""Raw posts, with the ampersand as Twitter's interface escapes it."""


def with_case(change: Callable[[str], str]) -> Callable[[Example], Example]:
    """Write every word of a post in another case."""
    return lambda example: dataclasses.replace(example, words=tuple(change(word) for word in example.words))


def with_handle(example: Example) -> Example:
    """Put `@name` before the post, from its first name; a handle is no name."""
    if not example.spans:
        return example
    first = example.spans[0]
    handle = "".join(example.words[first.start : first.end]).lower()
    spans = tuple(dataclasses.replace(span, start=span.start + 2, end=span.end + 2) for span in example.spans)
    return dataclasses.replace(example, words=("@", handle, *example.words), spans=spans)


def with_hashtags(example: Example) -> Example:
    """Write every name as `#JoinedWords`. The name is then the joined word."""
    words: list[str] = []
    spans: list[Span] = []
    at = 0
    for span in example.spans:
        words += example.words[at : span.start]
        if words[-1:] != ["#"]:
            words.append("#")
        words.append("".join(example.words[span.start : span.end]))
        spans.append(dataclasses.replace(span, start=len(words) - 1, end=len(words)))
        at = span.end
    return dataclasses.replace(example, words=(*words, *example.words[at:]), spans=tuple(spans))


FORMS: Mapping[str, Callable[[Example], Example]] = {
    "as published": lambda example: example,
    "lower case": with_case(str.lower),
    "all caps": with_case(str.upper),
    "a handle put before": with_handle,
    "names as #JoinedWords": with_hashtags,
}


def companies_found(tagger: DualTagger) -> tuple[int, int]:
    """The number of posts whose company with an `&` is found whole, as ORG, and the number of posts."""
    wanted = [(company, frame.format(company)) for frame in FRAMES for company in COMPANIES]
    results = tagger.run([TagRequest(text=text) for _, text in wanted], Media())
    found = [
        any((m.text, m.label) == (company, "ORG") for m in tags.mentions)
        for (company, _), tags in zip(wanted, results, strict=True)
    ]
    return sum(found), len(found)


def figures(tagger: DualTagger, data: Path, limit: int = 0) -> Iterator[tuple[str, float, float | None]]:
    """The F1 of span and coarse type, and of span and fine type, in each form.

    Args:
        tagger: a tagger of the scheme `4/51`.
        data: a folder with `fmnerg/` and, for the tweets, `ccby/`.
        limit: number of posts of each data set; 0 for all.
    """
    dev = read_fmnerg(data / "fmnerg", "dev", TaggerSpec(scheme="4/51"))[: limit or None]
    for name, change in FORMS.items():
        yield name, *span_f1(tagger, [change(example) for example in dev], informed=False)
    if not ccby_files(data / "ccby"):
        return
    tweets = read_ccby(data / "ccby")
    for name, is_wnut in (("Broad Twitter Corpus", False), ("WNUT-17", True)):
        chosen = [example for example in tweets if example.id.startswith(("emerging", "wnut")) == is_wnut]
        yield name, span_f1(tagger, chosen[: limit or None], informed=False)[0], None


def table(rows: Sequence[tuple[str, float, float | None]]) -> str:
    """The figures as a Markdown table, in percent."""
    lines = ["| posts | 4 types | 51 types |", "| --- | ---: | ---: |"]
    for name, coarse, fine in rows:
        lines.append(f"| {name} | {100 * coarse:.2f} | {'' if fine is None else f'{100 * fine:.2f}'} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(prog="python -m namepin.finetune.checks.robustness", description=__doc__)
    parser.add_argument(
        "adapters", nargs="*", default=["starter-tagger"], help="names or folders; else the shipped one"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with fmnerg/ and ccby/")
    parser.add_argument("--spans", choices=("coarse", "fine", "joint"), default="joint", help="tagger.spans")
    parser.add_argument("--lexicon", type=float, default=LEXICON, help="tagger.lexicon")
    parser.add_argument("--limit", type=int, default=0, help="number of posts of each data set; 0 for all")
    args = parser.parse_args(argv)
    for adapter in args.adapters:
        tagger = DualTagger(TaggerConfig(adapter=adapter, spans=args.spans, lexicon=args.lexicon, batch_size=32))
        right, asked = companies_found(tagger)
        print(f"{adapter}\n{table(list(figures(tagger, args.data, args.limit)))}")
        print(f"companies with an &amp; found: {right} of {asked}")


if __name__ == "__main__":
    with in_one_line():
        main()
