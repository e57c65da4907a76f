"""A report on the weak fine labels: their coverage, samples, and how much a classifier learns from them."""

import argparse
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from namepin.finetune.tagger.data import read_conll, spans_of
from namepin.finetune.tagger.weak_labels import MentionEvidence, evidence, listed_mentions, priors, weak_fine_labels
from namepin.finetune.tagger.weak_student import Student
from namepin.tools.labels import COARSE4, FINE51, FINE_TO_COARSE4, canonical_label
from namepin.tools.tagger.lexicon import Votes, blend, text_votes

Labelled = tuple[MentionEvidence, dict[str, float]]
BLENDS = (0.0, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0)
"""Weights of the lexicon's votes beside a classifier's probabilities; 5-fold validation chooses among them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print coverage, samples, and with `--fmnerg` the accuracy on gold spans."""
    parser = argparse.ArgumentParser(prog="python -m namepin.finetune.tagger.weak_report", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="gmner folder: txt/ and knowledge/")
    parser.add_argument("--split", default="train")
    parser.add_argument("--fmnerg", type=Path, help="FMNERG file with both tag columns: accuracy on its gold spans")
    parser.add_argument("--samples", type=int, default=0, help="number of random mentions to print")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    start = time.perf_counter()
    labelled = labelled_mentions(options.root, options.split)
    print(f"{len(labelled)} mentions of GMNER {options.split} labelled in {time.perf_counter() - start:.0f} s")
    print_coverage(labelled)
    for mention, label in random.Random(options.seed).sample(labelled, options.samples):
        shares = ", ".join(f"{fine} {share:.2f}" for fine, share in list(label.items())[:3]) or "unknown"
        print(f"{mention.coarse:5} {mention.name} | {shares} | {' '.join(mention.words)[:140]}")
    if options.fmnerg:
        print_accuracy(labelled, read_fmnerg(options.fmnerg), options.fmnerg.name, options.seed)


def labelled_mentions(root: Path, split: str) -> list[Labelled]:
    """The split's gold mentions with their weak labels, in file order."""
    labels = [label for post in weak_fine_labels(root, split).values() for label in post]
    return list(zip(evidence(root, split), labels, strict=True))


def print_coverage(labelled: Sequence[Labelled]) -> None:
    """Share of mentions with a label and its mean entropy (nats), by 4-type; count of each best type."""
    for coarse in COARSE4:
        labels = [label for mention, label in labelled if mention.coarse == coarse]
        known = [label for label in labels if label]
        entropy = np.mean([-sum(p * np.log(p) for p in label.values()) for label in known]) if known else 0.0
        print(f"{coarse:5} {len(labels):5} mentions, {len(known) / max(1, len(labels)):.3f} labelled, "
              f"mean entropy {entropy:.2f}")  # fmt: skip
    best = Counter(next(iter(label)) for _, label in labelled if label)
    print("best type: " + ", ".join(f"{fine} {count}" for fine, count in best.most_common()))


def read_fmnerg(file: Path) -> list[tuple[MentionEvidence, str]]:
    """Gold mentions with their gold fine type; the 4-type is its parent."""
    gold = []
    for post, words, tags in read_conll(file):
        for start, end, fine in spans_of([columns[-1] for columns in tags]):
            fine = canonical_label(fine, "fmnerg51")
            name = " ".join(words[start:end])
            mention = MentionEvidence(post, name, FINE_TO_COARSE4[fine], tuple(words), (start, end))
            gold.append((mention, fine))
    return gold


def print_accuracy(labelled: Sequence[Labelled], gold: Sequence[tuple[MentionEvidence, str]], name: str,
                   seed: int) -> None:  # fmt: skip
    """Accuracy of several classifiers on gold spans whose 4-type is given."""
    torch.set_num_threads(1)
    mentions = [mention for mention, _ in gold]
    spread = priors([(mention, label) for mention, label in labelled], enough=0.5)
    votes = [text_votes(m.coarse, m.words, m.span) for m in mentions]
    print(f"{name}: accuracy over {len(gold)} gold spans, gold 4-type given")
    report("most frequent type", [dict(spread[m.coarse]) for m in mentions], gold)
    report("lexicon alone", [blend(spread[m.coarse], v, 20) for m, v in zip(mentions, votes, strict=True)], gold)
    train, targets = [m for m, _ in labelled], [label for _, label in labelled]
    report("student", as_scores(Student(seed=seed).fit(train, targets).predict(mentions)), gold)
    listed = listed_mentions()
    train = [*train, *(MentionEvidence("", " ".join(w), c, w, (0, len(w))) for w, c, _ in listed)]
    targets = [*targets, *(types for _, _, types in listed)]
    scores = as_scores(Student(seed=seed).fit(train, targets).predict(mentions))
    report("student, lexicon's names added", scores, gold)
    joined, chosen = out_of_fold_blend(scores, votes, gold)
    report(f"the same + lexicon votes, weight by 5-fold {chosen}, out of fold", joined, gold)


def as_scores(probabilities: "np.ndarray[tuple[int, int], np.dtype[np.float32]]") -> list[dict[str, float]]:
    """Rows of `(mentions, 51)` as distributions."""
    return [{FINE51[i]: float(row[i]) for i in np.flatnonzero(row)} for row in probabilities]


def out_of_fold_blend(
    scores: Sequence[Mapping[str, float]], votes: Sequence[Votes], gold: Sequence[tuple[MentionEvidence, str]]
) -> tuple[list[dict[str, float]], list[float]]:
    """Blend each mention at the weight that is best on the other folds; posts go to 5 folds in turn."""
    posts = {post: i % 5 for i, post in enumerate(dict.fromkeys(mention.post for mention, _ in gold))}
    folds = [posts[mention.post] for mention, _ in gold]
    trials = [[blend(s, v, weight) for s, v in zip(scores, votes, strict=True)] for weight in BLENDS]
    hits = np.array([[next(iter(mixed)) == fine for mixed, (_, fine) in zip(t, gold, strict=True)] for t in trials])
    best = [int(hits[:, [f != fold for f in folds]].sum(1).argmax()) for fold in range(5)]
    return [trials[best[fold]][i] for i, fold in enumerate(folds)], [BLENDS[b] for b in best]


def report(title: str, scores: Sequence[Mapping[str, float]], gold: Sequence[tuple[MentionEvidence, str]]) -> None:
    """One line: accuracy over all mentions and by 4-type."""
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for row, (mention, fine) in zip(scores, gold, strict=True):
        seen[mention.coarse] += 1
        right[mention.coarse] += max(row, key=lambda kind: row[kind]) == fine
    by_type = ", ".join(f"{c} {right[c] / max(1, seen[c]):.3f}" for c in COARSE4)
    print(f"  {sum(right.values()) / max(1, sum(seen.values())):.3f}  {title} ({by_type})")


if __name__ == "__main__":
    main()
