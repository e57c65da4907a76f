"""Calibrate a tagger's types: `python -m namepin.finetune.tagger.calibrate ADAPTER --data DATA/fmnerg`.

It reads the dev posts with the adapter, fits a rising curve from a type's score to the share of mentions whose span and
type are right, and writes `calibration.json` into the adapter's folder. Run it again after every training. The printed
figures are cross-fitted: each post is judged by a curve that was fitted on the other folds.

The curve is isotonic regression over bins of equal counts, each with two made-up mentions, one of them right, so that
no probability is 0 or 1.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from namepin.evals.datasets.gold import Dataset
from namepin.evals.run import load_dataset
from namepin.evals.scoring.curves import BINS
from namepin.tools.errors import NamepinError, in_one_line
from namepin.tools.files import atomic_write
from namepin.tools.interfaces import TagRequest
from namepin.tools.jsonl import dump_json
from namepin.tools.loading.shipped import find_shipped
from namepin.tools.media import Media
from namepin.tools.tagger.adapter import Manifest, load_adapter
from namepin.tools.tagger.calibration import CALIBRATION_FILE, Calibration
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger

STARTER_LEXICON = 0.2
"""The lexicon's weight in the profile `starter`."""

FOLDS, QUANTILES = 5, 40
EVEN, LEAST_PRECISION = 0.5, 0.70
"""A type is shown when it is more likely right than wrong, and at least this share of the shown ones is right."""


@dataclass(frozen=True)
class TypeJudgement:
    """A mention that the tagger found.

    Attributes:
        post: number of its post.
        score: the score of its type.
        right: whether its span and its type are those of the gold.
    """

    post: int
    score: float
    right: bool


Curve = Sequence[tuple[float, float]]
Pairs = Sequence[tuple[float, bool]]
"""(probability, right) of each mention."""


def judge(tagger: DualTagger, data: Dataset) -> list[TypeJudgement]:
    """All mentions of a split as the tagger finds them without knowledge."""
    requests = [TagRequest(text=gold.post.text, tokens=gold.post.tokens) for gold in data.posts]
    judged = []
    for number, (gold, tags) in enumerate(zip(data.posts, tagger.run(requests, Media()), strict=True)):
        types = {entity.span: entity.fine for entity in gold.entities}
        for mention in tags.mentions:
            if mention.fine_label:
                right = types.get((mention.start, mention.end)) == mention.fine_label
                judged.append(TypeJudgement(number, mention.scores[mention.fine_label], right))
    return judged


def fit(judged: Iterable[TypeJudgement]) -> list[tuple[float, float]]:
    """The rising curve (score, probability) through these mentions."""
    ranked = sorted(judged, key=lambda one: one.score)
    size = math.ceil(len(ranked) / QUANTILES)
    blocks: list[tuple[float, int, int]] = []  # sum of the scores, number of mentions, right ones
    for start in range(0, len(ranked), size):
        part = ranked[start : start + size]
        blocks.append((sum(one.score for one in part), len(part), sum(one.right for one in part)))
        while len(blocks) > 1 and _share(blocks[-1]) <= _share(blocks[-2]):
            (s, n, r), (t, m, q) = blocks.pop(), blocks.pop()
            blocks.append((s + t, n + m, r + q))
    curve = [(round(block[0] / block[1], 6), round(_share(block), 4)) for block in blocks]
    return [point for i, point in enumerate(curve) if i == 0 or point[0] > curve[i - 1][0]]


def _share(block: tuple[float, int, int]) -> float:
    return (block[2] + 1) / (block[1] + 2)


def cross_fitted(
    judged: Sequence[TypeJudgement], probability: Callable[[Curve, float], float]
) -> list[tuple[float, bool]]:
    """Each mention's probability by the curve of the other folds."""
    pairs: list[tuple[float, bool]] = []
    for fold in range(FOLDS):
        curve = fit(one for one in judged if one.post % FOLDS != fold)
        pairs += [(probability(curve, one.score), one.right) for one in judged if one.post % FOLDS == fold]
    return pairs


def reliability(pairs: Pairs) -> dict[str, Any]:
    """Expected calibration error over ten bins, mean log loss, and the bins as (mean probability, share right, n)."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for p, right in pairs:
        bins[min(BINS - 1, int(p * BINS))].append((p, right))
    rows = [(sum(p for p, _ in b) / len(b), sum(r for _, r in b) / len(b), len(b)) for b in bins if b]
    loss = -sum(math.log(max(1e-6, p if right else 1 - p)) for p, right in pairs) / len(pairs)
    error = sum(n * abs(mean - share) for mean, share, n in rows) / len(pairs)
    return {"ece": round(error, 4), "log_loss": round(loss, 4), "bins": [[round(x, 3) for x in row] for row in rows]}


def shown_at(pairs: Pairs, threshold: float) -> dict[str, float]:
    """Share of mentions whose type is shown at this threshold, and the share of the shown and of the others right."""
    shown = [right for p, right in pairs if p >= threshold]
    hidden = [right for p, right in pairs if p < threshold]
    return {
        "threshold": threshold,
        "shown": round(len(shown) / len(pairs), 4),
        "precision": round(sum(shown) / max(1, len(shown)), 4),
        "right_of_the_unsure": round(sum(hidden) / max(1, len(hidden)), 4),
    }


def choose_threshold(pairs: Pairs) -> float:
    """The lowest threshold from 0.5 up at which `LEAST_PRECISION` of the shown types are right, in steps of 0.01."""
    steps = [round(EVEN + step / 100, 2) for step in range(50)]
    return next((t for t in steps if shown_at(pairs, t)["precision"] >= LEAST_PRECISION), steps[-1])


def calibrate(adapter: str, data: Dataset, config: TaggerConfig) -> tuple[Calibration, Mapping[str, Any]]:
    """The calibration of an adapter, and the figures about it.

    Raises:
        NamepinError: E139 when the tagger finds fewer than 100 mentions with a fine type; E210 to E213 for the adapter.
    """
    net, builder, manifest = load_adapter(find_shipped(adapter) or Path(adapter))
    judged = judge(DualTagger.of(net, builder, manifest, config), data)
    if len(judged) < 100:
        mend = "calibrate on a split with fine types, such as FMNERG dev"
        raise NamepinError("E139", f"only {len(judged)} mentions to calibrate on", where=data.title, mend=mend)

    through = partial(_calibration, manifest, config)
    after = cross_fitted(judged, lambda curve, score: through(curve, {}).probability(score))
    about = {
        "method": f"isotonic over {QUANTILES} bins of equal counts",
        "dataset": data.name,
        "split": data.split,
        "text_sha256": data.sha256,
        "posts": len(data.posts),
        "mentions": len(judged),
        "right": sum(one.right for one in judged),
        "before": reliability([(one.score, one.right) for one in judged]),
        "after": reliability(after),
        "chosen": shown_at(after, choose_threshold(after)),
    }
    return through(fit(judged), about), about


def _calibration(manifest: Manifest, config: TaggerConfig, points: Curve, about: Mapping[str, Any]) -> Calibration:
    return Calibration(
        weights_sha256=manifest.weights_sha256,
        spans=config.spans,
        merge=config.merge,
        lexicon=config.lexicon,
        points=tuple(points),
        fit=about,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter", help="name of an adapter that ships with Namepin, or an adapter's folder")
    parser.add_argument("--data", type=Path, required=True, help="a folder of FMNERG")
    parser.add_argument("--split", default="dev")
    parser.add_argument(
        "--spans", choices=("coarse", "fine", "joint"), default="joint", help="the profile's tagger.spans"
    )
    parser.add_argument("--lexicon", type=float, default=STARTER_LEXICON, help="the profile's tagger.lexicon")
    args = parser.parse_args(argv)
    data = load_dataset("fmnerg", args.data, args.split)
    config = TaggerConfig(adapter=args.adapter, spans=args.spans, lexicon=args.lexicon)
    calibration, about = calibrate(args.adapter, data, config)
    file = (find_shipped(args.adapter) or Path(args.adapter)) / CALIBRATION_FILE
    atomic_write(file, dump_json(calibration.model_dump(mode="json"), indent=1) + "\n")
    print(f"{file}: {about['mentions']} mentions, {about['right']} of them right; {len(calibration.points)} points")
    for name in ("before", "after"):
        print(f"{name}: ECE {about[name]['ece']:.3f}, log loss {about[name]['log_loss']:.3f}")
        print("  " + "  ".join(f"{mean:.2f}/{share:.2f} ({n:.0f})" for mean, share, n in about[name]["bins"]))
    chosen = about["chosen"]
    print(
        f"gate.uncertain = {chosen['threshold']:g}: {chosen['shown']:.1%} of the types are shown, "
        f"{chosen['precision']:.1%} of those are right, and {chosen['right_of_the_unsure']:.1%} of the others"
    )


if __name__ == "__main__":
    with in_one_line():
        main()
