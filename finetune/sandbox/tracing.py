"""Measure traces: `python -m namepin.finetune.sandbox.tracing WORLD --weights FOLDER [FOLDER ...]`.

Each BLIP traces every gold mention of a split that is in its picture (equation 11). The output is the share of peaks
within one of the mention's gold boxes, and the same share for a random point of the picture.
"""

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from namepin.evals.run import load_dataset
from namepin.finetune.data.mentions import read_split
from namepin.finetune.recipes.visual import VisualTraining
from namepin.tools.errors import in_one_line
from namepin.tools.geometry import box_area, holds_point
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import TraceQuery, TraceRequest
from namepin.tools.media import Media
from namepin.tools.models.config import BlipConfig
from namepin.tools.tracer.blip import BlipTracer
from namepin.tools.tracer.config import BlipTracerConfig


def hits(world: Path, split: str, weights: str, block: int = 0) -> tuple[int, int, float]:
    """Peaks within a gold box, mentions traced, and the mean share of the picture that their boxes cover.

    Raises:
        NamepinError: E120 to E139 data, E210 to E218 weights.
    """
    tracer = BlipTracer(BlipTracerConfig(blip=BlipConfig(weights=weights), block=block))
    boxed = [
        row for row in read_split(VisualTraining(out="", root=str(world), dataset="sandbox"), split).rows if row.boxes
    ]
    inside, covered = 0, 0.0
    for path, group in groupby(boxed, lambda row: row.image):
        rows, loaded = list(group), load_image(path)
        request = TraceRequest(image=loaded.ref, queries=tuple(TraceQuery(query=row.query) for row in rows))
        [traces] = tracer.run([request], Media(images={loaded.ref.sha256: loaded.image}))
        for row, trace in zip(rows, traces.traces, strict=True):
            inside += trace.peak is not None and any(holds_point(box, trace.peak) for box in row.boxes)
            covered += box_area(row.largest) / (loaded.image.width * loaded.image.height)
    return inside, len(boxed), covered / max(len(boxed), 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each of the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--block", type=int, default=0)
    options = parser.parse_args(argv)
    print(f"sandbox {options.split}, sha256 {load_dataset('sandbox', options.world, options.split).sha256[:12]}")
    for weights in options.weights:
        inside, count, covered = hits(options.world, options.split, weights, options.block)
        print(f"{weights}: {inside} of {count} peaks in the box, {inside / count:.3f}; anywhere, {covered:.3f}")


if __name__ == "__main__":
    with in_one_line():
        main()
