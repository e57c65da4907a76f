"""Linear layers in bfloat16 and 8-bit integers, and the tagger that computes with them."""

import copy

import pytest
import torch
from torch import nn

from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest
from namepin.tools.media import Media
from namepin.tools.nets.low_precision import Int8Linear, lower_precision, native_precision
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger

TEXTS = (
    "Angelina Jolie met Bob Dylan in Oslo",
    "NASA and Apple at the White House",
    "so proud of the Chicago Bulls tonight , says Taylor Swift",
)


def a_layer(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(64, 96, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
def test_int8_linear_is_close_to_float32(bias: bool) -> None:
    layer = a_layer(bias)
    x = torch.randn(3, 17, 64)
    with torch.inference_mode():
        exact, found = layer(x), Int8Linear(layer)(x)
    assert found.dtype == torch.float32 and found.shape == exact.shape
    assert 0 < float((found - exact).norm() / exact.norm()) < 0.02


def test_int8_linear_row_does_not_depend_on_other_rows() -> None:
    layer = Int8Linear(a_layer())
    x = torch.randn(24, 64)
    x[3] *= 1000
    with torch.inference_mode():
        assert torch.equal(layer(x)[4:9], layer(x[4:9]))
        assert torch.isfinite(layer(torch.zeros(1, 64))).all()


def test_lower_precision_to_bfloat16_takes_whole_net_and_to_int8_nested_linear_layers_only() -> None:
    net = nn.Sequential(a_layer(), nn.Sequential(nn.LayerNorm(96), nn.Linear(96, 8)))
    lower_precision(net, "float32")
    assert isinstance(net[0], nn.Linear) and net[0].weight.dtype == torch.float32
    lower_precision(halved := copy.deepcopy(net), "bfloat16")
    assert {weight.dtype for weight in halved.parameters()} == {torch.bfloat16}
    lower_precision(net, "int8")
    kinds = [type(module) for module in net.modules()]
    assert kinds.count(Int8Linear) == 2 and nn.Linear not in kinds and nn.LayerNorm in kinds


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_tagger_in_low_precision_finds_same_mentions_with_other_fingerprint(precision: str) -> None:
    exact = DualTagger(TaggerConfig(lexicon=0.2, spans="joint"))
    other = DualTagger(TaggerConfig.model_validate({"lexicon": 0.2, "spans": "joint", "precision": precision}))
    assert (exact.precision, other.precision) == ("float32", precision) and exact.fingerprint != other.fingerprint
    requests = [TagRequest(text=text) for text in TEXTS]
    pairs = zip(exact.run(requests, Media()), other.run(requests, Media()), strict=True)
    for a, b in [(a, b) for one, two in pairs for a, b in zip(one.mentions, two.mentions, strict=True)]:
        assert (a.text, a.label, a.fine_label) == (b.text, b.label, b.fine_label)
        assert a.scores == pytest.approx(b.scores, abs=0.1)


def test_tagger_with_auto_precision_takes_native_format_or_fails_back_to_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert DualTagger(TaggerConfig(precision="auto")).precision in (native_precision(), "float32")
    monkeypatch.setattr("namepin.tools.tagger.dual.native_precision", lambda: "int8")
    assert DualTagger(TaggerConfig(precision="auto")).precision == "int8"
    monkeypatch.setattr("namepin.tools.tagger.dual._CLOSE", 0.0)
    failed = DualTagger(TaggerConfig(precision="auto"))
    assert failed.precision == "float32" and failed.fingerprint == DualTagger(TaggerConfig()).fingerprint


def test_tagger_with_low_precision_on_gpu_raises_e203(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("namepin.tools.tagger.dual.device_named", lambda name: torch.device("cpu"))
    with pytest.raises(NamepinError, match="E203"):
        DualTagger(TaggerConfig(device="cuda", precision="int8"))
