"""The tagger as a tool: layout of rows, exact offsets, odd texts, damaged weights."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from namepin.evals.bench.tagger import InTurn
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest
from namepin.tools.labels import FINE_TO_COARSE4
from namepin.tools.loading.encoder import load_encoder
from namepin.tools.media import Media
from namepin.tools.tagger.adapter import ADAPTER_FILE, MANIFEST_FILE, TaggerSpec, build_net, load_adapter, save_adapter
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger, _batches, tag_spans
from namepin.tools.tagger.rows import (
    CASES,
    CONTEXTS,
    FINE_HINTS,
    HINTS,
    MARKS,
    InputSpec,
    RowBuilder,
    fine_hint,
    hint_type,
    knowledge_marks,
    word_case,
    word_context,
)
from support import tiny_encoders

TRICKY = {
    "a word": "hello",
    "handles, tags and links": "RT @BarackObama: see #NASA at https://t.co/xyz ... U.S. don't",
    "emoji": "Go 👩‍👩‍👧‍👦 team 🇩🇪 ❤️ Berlin 👍🏽!",
    "only emoji": "😀😀 🎉",
    "right to left": "مرحبا بكم في القاهرة مع شالوم ירושלים",
    "zero width": "a\u200bb \u200d \ufe0f Paris\u00ad",
    "no spaces": "東京タワーに行った ไปกรุงเทพ",
    "white space": "\n\t two   lines\r\n",
    "one endless word": "x" * 5000,
}


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes adapters with random weights: bold ones, so that they find many mentions."""
    folder = tmp_path_factory.mktemp("adapters")
    encoders = {
        "bert": tiny_encoders.save_tiny_bert(folder / "bert"),
        "roberta": tiny_encoders.save_tiny_roberta(folder / "roberta"),
    }

    def make(encoder: str = "bert", scheme: str = "4/51", style: str | None = "pgim", **inputs: object) -> Path:
        base = load_encoder(encoders[encoder])
        settings = {"max_pieces": 64, "overlap": 16, **inputs}
        spec = TaggerSpec.model_validate({"scheme": scheme, "encoder": encoders[encoder], "input": settings})
        torch.manual_seed(0)
        net = build_net(spec, base.model)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        target = folder / f"{encoder}-{scheme.replace('/', '-')}-{style}-{'-'.join(map(str, inputs.values()))}"
        save_adapter(target, dict(net.named_parameters()), spec, base.sha256, style, {})
        return target

    return make


def tagger(adapter: Path, **config: object) -> DualTagger:
    return DualTagger(TaggerConfig.model_validate({"adapter": str(adapter), **config}))


@pytest.mark.parametrize("encoder", ["bert", "roberta"])
@pytest.mark.parametrize("text", TRICKY.values(), ids=TRICKY.keys())
def test_dual_tagger_offsets_equal_mention_text(adapters: Callable[..., Path], encoder: str, text: str) -> None:
    (tags,) = tagger(adapters(encoder)).run([TagRequest(text=text)], Media())
    assert "".join(tags.tokens) == "".join(text.split())
    assert [m.index for m in tags.mentions] == list(range(len(tags.mentions)))
    for mention in tags.mentions:
        assert text[mention.start : mention.end] == mention.text


def test_dual_tagger_with_random_weights_returns_mentions(adapters: Callable[..., Path]) -> None:
    results = tagger(adapters()).run([TagRequest(text=text) for text in TRICKY.values()], Media())
    assert sum(len(tags.mentions) for tags in results) > 10


def test_dual_tagger_keeps_given_tokens(adapters: Callable[..., Path]) -> None:
    tokens = ("\u200b", "Barack Obama", "️", "@", "x")
    (tags,) = tagger(adapters()).run([TagRequest(text=" ".join(tokens), tokens=tokens)], Media())
    assert tags.tokens == tokens


def test_dual_tagger_mentions_are_independent_of_batch(adapters: Callable[..., Path]) -> None:
    tool = tagger(adapters(), batch_size=4)
    requests = [TagRequest(text=text, knowledge="a place (city)") for text in TRICKY.values()] * 2
    together = tool.run(requests, Media())
    for request, batched in zip(requests, together, strict=True):
        (alone,) = tool.run([request], Media())
        assert [(m.token_span, m.label, m.fine_label) for m in alone.mentions] == [
            (m.token_span, m.label, m.fine_label) for m in batched.mentions
        ]
        for one, other in zip(alone.mentions, batched.mentions, strict=True):
            assert dict(one.scores) == pytest.approx(dict(other.scores), abs=1e-4)


def test_dual_tagger_passes_in_threads_equal_passes_in_turn(adapters: Callable[..., Path]) -> None:
    requests = [TagRequest(text=text, knowledge="a place (city)") for text in TRICKY.values()] * 3
    config = TaggerConfig(adapter=str(adapters()), batch_size=2)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found, expected = (kind(config).run(requests, Media()) for kind in (DualTagger, InTurn))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(found, expected, strict=True):
        assert [(m.token_span, m.label, m.fine_label) for m in one.mentions] == [
            (m.token_span, m.label, m.fine_label) for m in other.mentions
        ]
        for mention, same in zip(one.mentions, other.mentions, strict=True):
            assert dict(mention.scores) == pytest.approx(dict(same.scores), abs=1e-5)


@pytest.mark.parametrize("pieces", [512, 4096])
@pytest.mark.parametrize("lengths", [[256] * 40, [30] * 100 + [29, 20, 5] * 20, [4000, 3000, 3], [1]])
def test_batches_bound_rows_and_pieces_and_keep_all(lengths: list[int], pieces: int) -> None:
    rows = [(None, SimpleNamespace(piece_ids=range(length))) for length in sorted(lengths, reverse=True)]
    batches = list(_batches(cast(Any, rows), 64, pieces))
    assert [row for batch in batches for row in batch] == rows
    for batch in batches:
        assert len(batch) <= 64 and (len(batch) == 1 or len(batch) * len(batch[0][1].piece_ids) <= pieces)
    assert len(batches) <= 2 + sum(lengths) / (0.4 * pieces)


def test_dual_tagger_scores_are_distribution_of_scheme(adapters: Callable[..., Path]) -> None:
    for scheme, count in (("4", 4), ("4/51", 51), ("8/51", 51)):
        tool = tagger(adapters(scheme=scheme))
        (tags,) = tool.run([TagRequest(text="one two three four five six seven eight nine ten")], Media())
        assert tags.mentions
        for mention in tags.mentions:  # Mention itself checks that the fine label's parent is the label
            assert (mention.fine_label is None) == (scheme == "4")
            shares = list(mention.scores.values())
            assert len(shares) == count and sum(shares) == pytest.approx(1, abs=1e-4)
            assert shares == sorted(shares, reverse=True)
            assert mention.entropy is not None and 0 <= mention.entropy <= torch.tensor(float(count)).log() + 1e-5


def test_dual_tagger_spans_option_selects_path(adapters: Callable[..., Path]) -> None:
    requests = [TagRequest(text=text) for text in TRICKY.values()]
    fine = tagger(adapters(), spans="fine").run(requests, Media())
    coarse = tagger(adapters(), spans="coarse").run(requests, Media())
    assert any(tags.mentions for tags in fine)
    assert [t.mentions for t in fine] != [t.mentions for t in coarse]


def test_joint_spans_follow_the_coarse_logits_where_the_fine_ones_are_silent(adapters: Callable[..., Path]) -> None:
    requests = [TagRequest(text=text) for text in TRICKY.values()]
    joint, coarse = tagger(adapters(), spans="joint"), tagger(adapters(), spans="coarse")
    for tool in (joint, coarse):
        assert tool.net.fine is not None
        for path in (tool.net.coarse, tool.net.fine):
            for parameter in path.crf.parameters():
                parameter.zero_()
        tool.net.fine.linear.weight.zero_()
        tool.net.fine.linear.bias.zero_()
        tool.net.transition.zero_()
    found = [[(m.token_span, m.label) for m in tags.mentions] for tags in joint.run(requests, Media())]
    assert any(found)
    assert found == [[(m.token_span, m.label) for m in tags.mentions] for tags in coarse.run(requests, Media())]


@pytest.mark.parametrize("scheme", ["4", "4/51", "8/51"])
def test_joint_spans_have_the_best_fine_type_of_their_coarse_type(adapters: Callable[..., Path], scheme: str) -> None:
    tool = tagger(adapters(scheme=scheme), spans="joint")
    (tags,) = tool.run([TagRequest(text="one two three four five six seven eight nine ten")], Media())
    assert tags.mentions
    for mention in tags.mentions:
        if scheme == "4":
            assert mention.fine_label is None
        else:
            kinds = [kind for kind in mention.scores if FINE_TO_COARSE4[kind] == mention.label]
            assert mention.fine_label in kinds and (scheme == "8/51" or mention.fine_label == kinds[0])


def test_dual_tagger_with_long_text_tags_all_parts(adapters: Callable[..., Path]) -> None:
    tool = tagger(adapters())
    rng = random.Random(0)
    text = " ".join("".join(rng.choices("abcdefghABC", k=rng.randint(1, 8))) for _ in range(9500))
    (tags,) = tool.run([TagRequest(text=text)], Media())
    assert len(text) > 50_000 and len(tags.tokens) == 9500
    thirds = [sum(m.start * 3 // len(text) == part for m in tags.mentions) for part in range(3)]
    assert min(thirds) > 0.8 * max(thirds) > 0


class _Letters:
    """A tokenizer that makes one piece a letter."""

    cls_token_id, sep_token_id, unk_token_id = 1, 2, 0

    def __call__(self, words: list[str] | str, **_: object) -> SimpleNamespace:
        many = [[3] * len(word) for word in ([words] if isinstance(words, str) else words)]
        return SimpleNamespace(input_ids=many[0] if isinstance(words, str) else many)


def test_row_builder_windows_cover_every_word_once() -> None:
    builder = RowBuilder(_Letters(), InputSpec(max_pieces=20, overlap=6))
    words = ["a" * (1 + i * 7 % 5) for i in range(200)] + ["b" * 500] + ["c"] * 30
    rows = builder.rows(words)
    assert [row.keep[0] for row in rows] == [0, *(row.keep[1] for row in rows[:-1])] and rows[-1].keep[1] == len(words)
    for row in rows:
        assert row.first <= row.keep[0] < row.keep[1] <= row.last


def test_dual_tagger_with_word_longer_than_row_keeps_its_token(adapters: Callable[..., Path]) -> None:
    tool = tagger(adapters("roberta", max_pieces=16, overlap=4))
    (tags,) = tool.run([TagRequest(text=f"in {'x' * 900} of")], Media())
    assert len(tags.tokens) == 3


def test_row_builder_does_not_cache_overlong_words(adapters: Callable[..., Path]) -> None:
    _, builder, _ = load_adapter(adapters("roberta", max_pieces=16, overlap=4))
    rows = [builder.rows(["in", f"{number}{'x' * 200}", "Oslo"]) for number in range(5)]
    assert set(builder._words) == {"in", "Oslo"}
    assert str(builder.rows(["in", f"4{'x' * 200}", "Oslo"])) == str(rows[4])


def test_row_builder_truncates_knowledge_before_text(adapters: Callable[..., Path]) -> None:
    builder = tagger(adapters()).builder
    knowledge = builder.knowledge("the " * 100)
    words = ["the"] * 50
    (row,) = builder.rows(words, knowledge)
    assert len(row.piece_ids) == 64 and row.knowledge_cut and len(row.word_pieces) == 50
    assert len(builder.rows(["the"] * 70, knowledge)) == 2


def test_dual_tagger_knowledge_changes_scores_and_warns_w112_or_w113(adapters: Callable[..., Path]) -> None:
    tool = tagger(adapters())
    bare = TagRequest(text="Angelina is in the city of Rome")
    known = bare.model_copy(update={"knowledge": "Angelina (actor)", "knowledge_style": "pgim"})
    other = known.model_copy(update={"knowledge_style": "gem-table6"})
    long = known.model_copy(update={"knowledge": "the " * 200})
    a, b, c, d = tool.run([bare, known, other, long], Media())
    assert [m.scores for m in a.mentions] != [m.scores for m in b.mentions]
    assert (a.notices, b.notices) == ((), ())
    assert [n.code for n in c.notices] == ["W112"] and "gem-table6" in c.notices[0].message
    assert [n.code for n in d.notices] == ["W113"]


@pytest.mark.parametrize(("style", "codes"), [("riveg-gpt-3.5", []), ("riveg-plim", []), ("gem-table6", ["W112"])])
def test_knowledge_of_the_trained_prompt_gives_no_warning_whoever_answered_it(
    adapters: Callable[..., Path], style: str, codes: list[str]
) -> None:
    request = TagRequest(text="Angelina is in Rome", knowledge="Angelina (actor)", knowledge_style=style)
    (tags,) = tagger(adapters(style="riveg-gpt-3.5")).run([request], Media())
    assert [notice.code for notice in tags.notices] == codes


def test_dual_tagger_with_crf_over_knowledge_tags_text_only(adapters: Callable[..., Path]) -> None:
    tool = tagger(adapters(crf_scope="all"))
    request = TagRequest(text="Angelina is in Rome", knowledge="the of in " * 10)
    (tags,) = tool.run([request], Media())
    assert all(m.token_span[1] <= 4 for m in tags.mentions)
    assert len(tool.builder.rows(["a"] * 4, tool.builder.knowledge(request.knowledge))[0].word_pieces) > 30


def test_dual_tagger_fingerprint_depends_on_weights_and_config(adapters: Callable[..., Path], tmp_path: Path) -> None:
    source = adapters()
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert tagger(source).fingerprint == tagger(copy, batch_size=2).fingerprint
    assert tagger(source).fingerprint != tagger(source, merge="sum").fingerprint
    assert tagger(source).fingerprint != tagger(adapters(crf_scope="all")).fingerprint


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("E210", lambda folder: (folder / ADAPTER_FILE).unlink()),
        ("E210", lambda folder: (folder / MANIFEST_FILE).unlink()),
        ("E211", lambda folder: (folder / ADAPTER_FILE).write_bytes((folder / ADAPTER_FILE).read_bytes()[:-100])),
        ("E211", lambda folder: (folder / ADAPTER_FILE).write_bytes(b"PK\x03\x04 a pickle")),
        ("E212", lambda folder: (folder / MANIFEST_FILE).write_text("{}")),
        ("E212", lambda folder: _edit(folder, "encoder_sha256", "0" * 64)),
        ("E213", lambda folder: _edit(folder, "spec", {"encoder": "no/such-encoder"})),
    ],
)
def test_dual_tagger_with_damaged_adapter_raises_coded_error(
    adapters: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str,
    damage: Callable[[Path], object],
) -> None:  # fmt: skip
    def no_network(name: str, **_: object) -> str:
        raise OSError(f"{name}: no network in tests")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in adapters().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    damage(folder)
    with pytest.raises(NamepinError) as caught:
        tagger(folder)
    assert caught.value.code == code and "\n" not in str(caught.value)


def _edit(folder: Path, key: str, value: object) -> None:
    file = folder / MANIFEST_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))


@pytest.mark.parametrize(
    ("word", "case"),
    [
        ("paris", "lower"), ("Paris", "Title"), ("NASA", "UPPER"), ("iPhone", "miXed"), ("A", "X"), ("2015", "digits"),
        ("MH370", "w1th-digits"), ("東京", "uncased"), ("...", "mark"), ("😀", "symbol"), ("", "mark"),
    ],
)  # fmt: skip
def test_word_case_returns_case_class(word: str, case: str) -> None:
    assert CASES[word_case(word)] == case


def test_word_context_returns_context_class() -> None:
    words = ["RT", "@", "NASA", ":", "#", "Mars", "https://t.co/x"]
    found = [CONTEXTS[word_context(word, before)] for before, word in zip(["", *words], words, strict=False)]
    assert found == ["retweet", "plain", "handle", "plain", "plain", "hashtag", "link"]


def test_knowledge_marks_find_listed_names_in_text() -> None:
    builder = RowBuilder(_Letters(), InputSpec(marks=True, knowledge_pieces=4))
    text = "Named entities:1. #CondiRice (person)2. U.S. Army (organization/army) Reasoning: Rome is nice."
    knowledge = builder.knowledge(text)
    assert knowledge is not None
    words = ["#", "Condi", "Rice", "of", "the", "Army", "in", "Rome"]
    marks = knowledge_marks(words, knowledge)
    assert [HINTS[hint] for _, hint, _ in marks] == ["none", "PER", "PER", "none", "none", "none", "none", "none"]
    assert [MARKS[mark] for mark, _, _ in marks] == [
        "absent", "name", "in-name", "absent", "absent", "said", "absent", "said",
    ]  # fmt: skip
    (row,) = builder.rows(words, knowledge)
    (bare,) = builder.rows(words)
    assert row.piece_shapes[:, 2].max() > 0 and bare.piece_shapes[:, 2].max() == 0


@pytest.mark.parametrize(
    ("hint", "kind"),
    [("person/singer", "PER"), ("city", "LOC"), ("sports team", "ORG"), ("film", "OTHER"), ("?", "unclear")],
)
def test_hint_type_maps_hint_to_coarse_type(hint: str, kind: str) -> None:
    assert HINTS[hint_type(hint)] == kind


@pytest.mark.parametrize(
    ("hint", "kind"),
    [("GROUP/sports_team", "sports_team"), ("group/Sports team", "sports_team"), ("city", "city"),
     ("person/singer", "none"), ("person", "none"), ("", "none"), ("/", "none")],
)  # fmt: skip
def test_fine_hint_maps_hint_to_fine_type(hint: str, kind: str) -> None:
    assert FINE_HINTS[fine_hint(hint)] == kind


@pytest.mark.parametrize("fine", [True, False])
def test_dual_tagger_reads_fine_hints_when_adapter_enables_them(adapters: Callable[..., Path], fine: bool) -> None:
    tool = tagger(adapters(marks=True, hints=True, fine_hints=fine, knowledge_pieces=0), lexicon=0)
    tokens, text = ("Ajax", "plays"), "Ajax plays"
    said = [
        tool.run(
            [TagRequest(text=text, tokens=tokens, knowledge=f"Named entities: 1. Ajax (organization/{kind})")], Media()
        )
        for kind in ("sports_team", "social_organization")
    ]
    assert (said[0] != said[1]) == fine


def test_tag_spans_of_bio_starts_span_at_lone_inside() -> None:
    # O B0 I0 O | I1 I1 | B1 B1 I0
    assert list(tag_spans([0, 1, 2, 0, 4, 4, 3, 3, 2])) == [(1, 3, 0), (4, 6, 1), (6, 7, 1), (7, 8, 1), (8, 9, 0)]
    assert list(tag_spans([])) == []
