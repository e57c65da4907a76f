"""A detector's boxes for a data set's pictures, as a file of predictions with `regions` (RiVEG, Table II)."""

from collections.abc import Callable
from pathlib import Path

from namepin.evals.datasets.gold import Dataset
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write
from namepin.tools.grounder.config import DetectorConfig
from namepin.tools.images.load import load_image
from namepin.tools.jsonl import dump_json


def write_regions(dataset: Dataset, config: DetectorConfig, out: Path, done: Callable[[], None] = lambda: None) -> int:
    """Write a row per post with a picture: `id`, `image` (sha256), `entities` (none) and `regions`, best first.

    Args:
        dataset: the posts.
        config: the detector.
        out: the JSONL, which `namepin eval --predictions` and `grounder.regions` read.
        done: called after each post.

    Returns:
        The number of rows.

    Raises:
        NamepinError: E120 to E125 a picture that cannot be read, E139 without pictures, E210 to E213 weights.
    """
    from namepin.tools.grounder.detector import Detector

    posts = [gold.post for gold in dataset.posts if gold.post.image]
    if not posts:
        raise NamepinError("E139", f"no post of {dataset.title} has a picture", mend="add images/")
    detector, rows = Detector(config), list[str]()
    for post in posts:
        loaded = load_image(post.image or "")
        boxes = [[round(edge, 2) for edge in box] for box in detector.boxes(loaded.image)]
        rows.append(dump_json({"id": post.id, "image": loaded.ref.sha256, "entities": [], "regions": boxes}))
        done()
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, "\n".join(rows) + "\n")
    return len(rows)
