"""The entropy gate (equation 10) by hand: who is reranked, among which types, and what is near the threshold."""

import math

import pytest
import torch

from namepin.graphs.policy import GatePolicy
from namepin.tools.interfaces import TagRequest
from namepin.tools.labels import COARSE4, FINE51
from namepin.tools.loading.encoder import load_encoder
from namepin.tools.media import Media
from namepin.tools.tagger.adapter import TaggerSpec, build_net, save_adapter
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger
from support import tiny_gem

FINE = {name: (51 - i) / 1326 for i, name in enumerate(FINE51)}
FOUR = {"PER": 0.4, "LOC": 0.3, "ORG": 0.2, "OTHER": 0.1}


def test_gate_policy_defaults_equal_paper() -> None:
    assert (GatePolicy().gamma, GatePolicy().k) == (0.2, 5)


@pytest.mark.parametrize(("entropy", "hard"), [(None, 0), (0.0, 0), (0.2, 0), (0.2000001, 5), (3.9, 5)])
def test_gate_candidates_require_entropy_above_gamma(entropy: float | None, hard: int) -> None:
    assert GatePolicy().candidates(FINE, entropy) == FINE51[:hard]


@pytest.mark.parametrize(("k", "names"), [(2, ("PER", "LOC")), (5, tuple(FOUR)), (60, tuple(FOUR))])
def test_gate_candidates_of_gmner_are_at_most_four(k: int, names: tuple[str, ...]) -> None:
    assert GatePolicy(k=k).candidates(FOUR, 1.28) == names


def test_gate_candidates_of_single_type_are_empty() -> None:
    assert GatePolicy(gamma=0).candidates({"city": 1.0}, 0.1) == ()


def test_gate_candidates_with_equal_scores_are_sorted_by_name() -> None:
    scores = {"city": 0.25, "actor": 0.25, "band": 0.25, "park": 0.25}
    assert GatePolicy(k=3).candidates(scores, 1.38) == ("actor", "band", "city")


@pytest.mark.parametrize(
    ("entropy", "near"), [(0.1901, True), (0.1899, False), (0.2, True), (0.2099, True), (0.211, False), (None, False)]
)
def test_gate_near_is_true_within_margin_only(entropy: float | None, near: bool) -> None:
    assert GatePolicy().near(entropy) is near


@pytest.mark.parametrize(("scheme", "types"), [("4/51", FINE51), ("4", COARSE4), ("8/51", FINE51)])
def test_tagger_entropy_equals_entropy_of_its_scores(
    tmp_path_factory: pytest.TempPathFactory, scheme: str, types: tuple[str, ...]
) -> None:
    folder = tmp_path_factory.mktemp("tagger")
    encoder = tiny_gem.tiny_encoders.save_tiny_bert(folder / "bert")
    base, spec = load_encoder(encoder), TaggerSpec.model_validate({"scheme": scheme, "encoder": encoder})
    torch.manual_seed(0)
    net = build_net(spec, base.model)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    save_adapter(folder / "adapter", dict(net.named_parameters()), spec, base.sha256, None, {})
    tool = DualTagger(TaggerConfig(adapter=str(folder / "adapter")))
    mentions = tool.run([TagRequest(text="Eileen Collins commands Columbia for NASA")], Media())[0].mentions
    assert mentions
    for mention in mentions:
        assert set(mention.scores) == set(types) and sum(mention.scores.values()) == pytest.approx(1, abs=1e-4)
        assert list(mention.scores.values()) == sorted(mention.scores.values(), reverse=True)
        by_hand = -sum(p * math.log(p) for p in mention.scores.values() if p)
        assert mention.entropy == pytest.approx(by_hand, abs=1e-3)
