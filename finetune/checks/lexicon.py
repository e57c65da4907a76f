"""Measure how much of the fine score the lexicon may owe to its author's knowledge of the test posts.

The lists in `tools/data/fine_names.toml` come from general knowledge, but their author had read the names of FMNERG
test-300 before writing them. This command removes those names from the lexicon and scores the tagger again. First it
removes the names that GMNER train lacks (what a leak could add), then all of them (a lower bound). Run
`python -m namepin.finetune.checks.lexicon --data DATA`.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from namepin.evals.datasets.gold import Dataset
from namepin.evals.run import load_dataset
from namepin.evals.scoring.evaluate import evaluate
from namepin.evals.scoring.predictions import check
from namepin.tools.errors import in_one_line
from namepin.tools.interfaces import TagRequest
from namepin.tools.media import Media
from namepin.tools.tagger import lexicon
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger

STARTER_WEIGHT = 0.2


def fine_f1(data: Dataset, weight: float) -> float:
    """F1 of span and fine type, with the lexicon at this weight."""
    tagger = DualTagger(TaggerConfig(spans="joint", lexicon=weight))
    requests = [TagRequest(text=gold.post.text, tokens=gold.post.tokens) for gold in data.posts]
    tagged = tagger.run(requests, Media())
    rows = [
        (
            gold.post.id,
            {
                "id": gold.post.id,
                "entities": [m.model_dump(include={"label", "fine_label", "start", "end"}) for m in tags.mentions],
            },
        )
        for gold, tags in zip(data.posts, tagged, strict=True)
    ]
    scores = evaluate(data, check(rows, data)).fine
    assert scores and scores["mner"], "the data has no fine types"
    return scores["mner"].f1


def names_of(data: Dataset) -> frozenset[str]:
    """The `name_key` of every gold entity."""
    return frozenset(lexicon.name_key(entity.text) for gold in data.posts for entity in gold.entities)


@contextmanager
def without(names: frozenset[str]) -> Iterator[int]:
    """Remove these names from the lexicon for a while; yields the number of removed names."""
    known = lexicon.known_names
    remaining: Mapping[str, tuple[str, ...]] = {key: types for key, types in known().items() if key not in names}
    struck = len(known()) - len(remaining)
    lexicon.known_names = lambda: remaining  # type: ignore[assignment]  # the cached function of no arguments
    try:
        yield struck
    finally:
        lexicon.known_names = known


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the four scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds gmner/ and fmnerg-test300/")
    root = parser.parse_args(arguments).data
    test = load_dataset("fmnerg", root / "fmnerg-test300", "dev")
    train_names = names_of(load_dataset("gmner", root / "gmner", "train"))
    print(f"{test.title}: F1 of span and 51 types")
    print(f"{100 * fine_f1(test, 0.0):.2f}  no lexicon")
    cases = {
        "the whole lexicon": frozenset[str](),
        "without these posts' names that GMNER train lacks": names_of(test) - train_names,
        "without any of these posts' names": names_of(test),
    }
    for about, names in cases.items():
        with without(names) as struck:
            print(f"{100 * fine_f1(test, STARTER_WEIGHT):.2f}  {about} ({struck} struck)")


if __name__ == "__main__":
    with in_one_line():
        main()
