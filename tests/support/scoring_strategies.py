"""Random data sets and predictions, as hypothesis strategies."""

from collections.abc import Sequence

from hypothesis import strategies as st

from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.evals.datasets.tags import spans_of_tags
from namepin.evals.scoring.predictions import Predictions, check
from namepin.tools.labels import COARSE4
from support.eval_samples import dataset, from_gold, gold

BOXES = [(0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 5.0, 10.0), (40.0, 40.0, 60.0, 70.0)]

tag_rows = st.lists(
    st.lists(st.sampled_from(["O"] + [f"{bio}-{label}" for bio in "BI" for label in COARSE4]), min_size=1, max_size=9),
    min_size=1,
    max_size=5,
)
regions = st.one_of(st.just(()), st.lists(st.sampled_from(BOXES), min_size=1, max_size=2, unique=True).map(tuple))


def posts_of(rows: Sequence[Sequence[str]], boxes: "list[tuple[tuple[float, ...], ...]]") -> list[GoldPost]:
    """One post a tag row, its mentions with boxes in turn."""
    posts = []
    for number, tags in enumerate(rows):
        spans = [(a, b, label, boxes[(number + a) % len(boxes)]) for a, b, label in spans_of_tags(tags)[0]]
        posts.append(gold(str(number), " ".join(f"w{i % 4}" for i in range(len(tags))), *spans))  # type: ignore[arg-type]
    return posts


@st.composite
def data_and_predictions(draw: st.DrawFn) -> tuple[Dataset, Predictions]:
    """A random data set, and predictions drawn independently on the same texts."""
    rows = draw(tag_rows)
    guesses = [draw(st.lists(st.sampled_from(tags), min_size=len(tags), max_size=len(tags))) for tags in rows]
    boxes = draw(st.lists(regions, min_size=2, max_size=4))
    data = dataset(*posts_of(rows, boxes))
    guessed = dataset(*posts_of(guesses, boxes[::-1]))
    return data, check([("row", row) for row in from_gold(guessed)], data)
