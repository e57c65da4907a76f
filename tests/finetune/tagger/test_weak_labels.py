import json
import math

import pytest

from namepin.finetune.tagger.data import read_gmner
from namepin.finetune.tagger.weak_labels import (
    MentionEvidence,
    Note,
    Weights,
    best_note,
    distribution,
    evidence,
    knowledge_votes,
    listed_mentions,
    parse_knowledge,
    pool_votes,
    priors,
    said_of,
    weak_fine_labels,
)
from namepin.finetune.tagger.weak_report import main, out_of_fold_blend, read_fmnerg
from namepin.finetune.tagger.weak_student import Student
from namepin.tools.errors import NamepinError
from namepin.tools.labels import COARSE4, FINE51, FINE_TO_COARSE4
from namepin.tools.tagger.lexicon import TextWeights


def write_split(root, posts, split="train"):
    """`posts`: (id, "word/TAG ...", knowledge or None)."""
    (root / "txt").mkdir(parents=True, exist_ok=True)
    (root / "knowledge").mkdir(exist_ok=True)
    lines, rows = [], []
    for post, tagged, knowledge in posts:
        lines.append(f"IMGID:{post}")
        lines += ["\t".join(pair.rsplit("/", 1)) for pair in tagged.split()]
        lines.append("")
        if knowledge is not None:
            rows.append(json.dumps({"id": post, "knowledge": knowledge}))
    (root / "txt" / f"{split}.txt").write_text("\n".join(lines), "utf-8")
    (root / "knowledge" / f"{split}.jsonl").write_text("".join(f"{row}\n" for row in rows), "utf-8")
    return root


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("Named entities: 1. Al Moe (person/singer) 2. Zed (city) Reasoning: x", ["Al Moe:person/singer", "Zed:city"]),
        ("Named entities:1. A1 Moe (person)2. 30 Rox (band)Reasoning:x", ["A1 Moe:person", "30 Rox:band"]),
        ('Named entities: 1. "Zed" (song); 2. #Moe (hashtag) Reasoning: x', ["Zed:song", "Moe:hashtag"]),
        ("Named entities: 1. Zed 2.0 (software) Reasoning: x", ["Zed 2.0:software"]),
        ("Named entities: 1. Moe - Runner 2. Zed (City) Reasoning: x", ["Moe:runner", "Zed:city"]),
        ("Named entities: None. Reasoning: nothing", []),
        ("Named entities may not be present in this sentence.", []),
        ("", []),
    ],
)
def test_parse_knowledge_returns_names_and_hints_of_numbered_list(text, notes):
    assert [f"{note.name}:{note.hint.strip()}" for note in parse_knowledge(text)[0]] == notes


def test_parse_knowledge_returns_reasoning_after_list():
    assert parse_knowledge("Named entities: 1. Zed (city) Reasoning: Zed is big.")[1] == "Zed is big."
    assert parse_knowledge("no such part")[1] == ""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Ted Example", "Ted Example"),
        ("ted_example", "Ted Example"),
        ("Example", "Ted Example"),
        ("TedExample", "Ted Example"),
        ("Ted Exampel", "Ted Example"),
        ("Senator Ted Example", "Ted Example"),
        ("Al", "Al"),
        ("Alphabet", None),
        ("Bob", None),
        ("!", None),
    ],
)
def test_best_note_matches_name_by_spelling(name, found):
    note = best_note(name, [Note("Al", "person"), Note("Ted Example", "person/politician")])
    assert (note.name if note else None) == found


@pytest.mark.parametrize(
    ("reasoning", "phrases"),
    [
        ("Moe is a famous singer.", ["famous singer"]),
        ("moe likely refers to the basketball player, who won.", ["basketball player"]),
        ("They saw the football coach Moe there.", ["football coach "]),
        ("Moe's a model. Moes is a city.", ["model", "city"]),
        ("Moerman is a singer and so is Amoe.", []),
        ("Nothing is said.", []),
    ],
)
def test_said_of_name_returns_noun_phrases_of_reasoning(reasoning, phrases):
    assert list(said_of(["Moe"], reasoning)) == phrases


def test_said_of_short_name_returns_nothing():
    assert list(said_of(["Al"], "Al is a singer.")) == []


def test_knowledge_votes_weigh_hint_and_reasoning():
    weights = Weights(hint=3, reason=1)
    notes = [Note("Moe Xyzzy", "person/singer")]
    votes = knowledge_votes("PER", "Xyzzy", notes, "Moe Xyzzy is an actor.", weights)
    assert votes == {"musician": 3.0, "actor": 1.0}


def test_knowledge_votes_look_up_full_name_in_lexicon():
    votes = knowledge_votes("PER", "Taylor", [Note("Taylor Swift", "person")], "", Weights())
    assert votes == {"musician": Weights().text.listed / 2}


def test_weak_fine_labels_with_vague_hint_are_empty(tmp_path):
    root = write_split(tmp_path, [("1", "Qqx/B-PER waves/O", "Named entities: 1. Qqx (person/handle) Reasoning: none")])
    assert weak_fine_labels(root, "train") == {"1": [{}]}


def test_weak_fine_labels_pool_equal_names_within_coarse_type(tmp_path):
    said = "Named entities: 1. Qqx (person/singer) Reasoning: none"
    root = write_split(
        tmp_path,
        [("1", "Qqx/B-PER", said), ("2", "qqx/B-PER waves/O", None), ("3", "Qqx/B-ORG", None), ("4", "no/O", None)],
    )
    labels = weak_fine_labels(root, "train")
    assert labels == {"1": [{"musician": 1.0}], "2": [{"musician": 1.0}], "3": [{}]}


def test_weak_fine_labels_with_thin_evidence_are_smoothed_by_priors(tmp_path):
    said = "Named entities: 1. {} (person/singer) Reasoning: none"
    names = ["Qqxav", "Wwzbv", "Jjkcv"]
    posts = [(name, f"{name}/B-PER", said.format(name)) for name in names]
    posts.append(("ctx", "Vvy/B-PER wins/O the/O match/O", None))
    labels = weak_fine_labels(write_split(tmp_path, posts), "train")
    assert labels["ctx"][0] == pytest.approx({"musician": 0.25 / 0.35, "athlete": 0.1 / 0.35})


def test_weak_fine_labels_follow_order_of_text(tmp_path):
    said = "Named entities: 1. Bbq Qqx (person/singer) 2. Zzy (city) Reasoning: none"
    root = write_split(tmp_path, [("1", "Zzy/B-LOC loves/O Bbq/B-PER Qqx/I-PER and/O Ooh/B-ORG", said)])
    tops = [max(label, key=label.get) if label else None for label in weak_fine_labels(root, "train")["1"]]
    assert tops == ["city", "musician", None]


@pytest.mark.parametrize("missing", ["txt", "knowledge"])
def test_weak_fine_labels_with_missing_file_raise_e130(tmp_path, missing):
    root = write_split(tmp_path, [("1", "no/O", None)])
    (root / missing / ("train.txt" if missing == "txt" else "train.jsonl")).unlink()
    with pytest.raises(NamepinError, match=f"E130.*{missing}/train"):
        weak_fine_labels(root, "train")


def test_distribution_sums_to_one_and_drops_small_shares():
    assert distribution({"city": 99, "state": 1}) == {"city": 1.0}
    assert distribution({}) == {}
    assert distribution({"city": 0.0}) == {}
    assert list(distribution({"city": 1, "state": 3})) == ["state", "city"]


def test_priors_use_well_evidenced_mentions_only():
    mention = MentionEvidence("1", "x", "LOC", ("x",), (0, 1))
    spread = priors([(mention, {"city": 2.0}), (mention, {"state": 0.3})])
    assert spread == {"PER": {}, "LOC": {"city": 1.0}, "ORG": {}, "OTHER": {}}


def test_pool_votes_leaves_evidence_unchanged():
    mentions = [MentionEvidence(str(i), "x", "LOC", ("x",), (0, 1), {"city": 1.0}) for i in range(2)]
    assert [votes for _, votes in pool_votes(mentions)] == [{"city": 2.0}] * 2
    assert [mention.votes for mention in mentions] == [{"city": 1.0}] * 2


def test_listed_mentions_are_tokenised_like_dataset():
    mentions = {(words, coarse): types for words, coarse, types in listed_mentions()}
    assert mentions[("Jay", "-", "Z"), "PER"] == {"musician": 1.0}
    for (words, coarse), types in mentions.items():
        assert (
            words
            and set(types) <= {fine for fine in FINE51 if FINE_TO_COARSE4[fine] == coarse}
            and sum(types.values()) == pytest.approx(1)
        )


def toy_mentions(n=60):
    texts = [
        ("ORG", "band", "our new album by {} is out"),
        ("ORG", "company", "shares of {} fell today"),
        ("LOC", "city", "flights to {} are cheap"),
    ]
    mentions, targets = [], []
    for i in range(n):
        coarse, fine, text = texts[i % 3]
        words = tuple(text.format(f"Name{i}").split())
        at = words.index(f"Name{i}")
        mentions.append(MentionEvidence(str(i), words[at], coarse, words, (at, at + 1)))
        targets.append({fine: 1.0})
    return mentions, targets


def test_student_learns_contexts_within_coarse_type():
    mentions, targets = toy_mentions()
    p = Student(epochs=6).fit(mentions[:48], targets[:48]).predict(mentions[48:])
    scores = [dict(zip(FINE51, row, strict=True)) for row in p]
    assert [max(s, key=s.get) for s in scores] == [next(iter(t)) for t in targets[48:]]
    for mention, row in zip(mentions[48:], scores, strict=True):
        inside = sum(share for fine, share in row.items() if FINE_TO_COARSE4[fine] == mention.coarse)
        assert inside == pytest.approx(1, abs=1e-5)


def test_student_ignores_mentions_of_unknown_type():
    mentions, targets = toy_mentions(12)
    more = [*mentions, *mentions], [*targets, *({} for _ in mentions)]
    once = Student(epochs=2).fit(mentions, targets).predict(mentions)
    assert (Student(epochs=2).fit(*more).predict(mentions) == once).all()


def test_out_of_fold_blend_excludes_fold_it_is_applied_to():
    mentions = [MentionEvidence(str(i), "x", "LOC", ("x",), (0, 1)) for i in range(5)]
    # The votes are right in fold 0 alone: only the four others may choose for it, and they are better off without.
    gold = [(mention, "state" if i == 0 else "city") for i, mention in enumerate(mentions)]
    joined, weights = out_of_fold_blend([{"city": 0.6, "state": 0.4}] * 5, [{"state": 1.0}] * 5, gold)
    assert weights == [0.0] * 5
    assert [max(s, key=s.get) for s in joined] == ["city"] * 5


def test_read_fmnerg_maps_types_to_parent_and_canonical_type(tmp_path):
    file = tmp_path / "dev.txt"
    file.write_text("IMGID:1\nMoe\tB-person\tB-common_person\nin\tO\tO\nZed\tB-building\tB-sports_facility\n", "utf-8")
    assert [(m.name, m.coarse, fine) for m, fine in read_fmnerg(file)] == [
        ("Moe", "PER", "person_other"),
        ("Zed", "LOC", "sports_facility"),
    ]


def test_weak_report_command_prints_coverage_and_accuracy(tmp_path, capsys):
    posts = []
    for i in range(12):
        coarse, hint = [("PER", "singer"), ("LOC", "city"), ("ORG", "band")][i % 3]
        posts.append((str(i), f"hello/O Qq{i}x/B-{coarse}", f"Named entities: 1. Qq{i}x ({hint}) Reasoning: none"))
    root = write_split(tmp_path, posts)
    gold = tmp_path / "gold.txt"
    gold.write_text("IMGID:1\nhello\tO\tO\nQq3x\tB-person\tB-musician\n\nIMGID:2\nParis\tB-location\tB-city\n", "utf-8")
    main(["--root", str(root), "--fmnerg", str(gold), "--samples", "2"])
    out = capsys.readouterr().out
    assert "PER       4 mentions, 1.000 labelled" in out
    assert "gold.txt: accuracy over 2 gold spans" in out
    assert "1.000  student" in out


@pytest.mark.data
def test_weak_fine_labels_of_release_cover_most_mentions(data_root):
    root = data_root / "gmner"
    labels = weak_fine_labels(root, "dev")
    mentions = evidence(root, "dev")
    flat = [label for post in labels.values() for label in post]
    assert len(flat) == len(mentions) == 2450
    for mention, label in zip(mentions, flat, strict=True):
        assert set(label) <= {fine for fine in FINE51 if FINE_TO_COARSE4[fine] == mention.coarse}
        assert not label or math.isclose(sum(label.values()), 1)
    for coarse in COARSE4:
        of_type = [label for mention, label in zip(mentions, flat, strict=True) if mention.coarse == coarse]
        assert sum(map(bool, of_type)) / len(of_type) > 0.8
    # The tagger's reader takes them as they are.
    assert sum(len(example.spans) for example in read_gmner(root, "dev", labels)) == 2450


def test_weak_fine_labels_with_zero_weights_are_empty(tmp_path):
    root = write_split(tmp_path, [("1", "Paris/B-LOC", "")])
    assert weak_fine_labels(root, "train") == {"1": [{"city": 1.0}]}
    off = Weights(text=TextWeights(listed=0, shape=0, context=0))
    assert weak_fine_labels(root, "train", off) == {"1": [{}]}
