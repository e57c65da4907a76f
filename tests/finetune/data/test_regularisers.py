"""Dropout and drop path act in training alone, at the rates asked for."""

import pytest
import torch
from torch import nn

from namepin.finetune.data.ofa import OfaParts
from namepin.finetune.data.regularisers import add_drop_path, add_dropout, drop_rows
from namepin.finetune.recipes.entailment import OfaEntailmentRecipe
from namepin.finetune.recipes.grounder import OfaGrounderRecipe
from support import tiny_ofa


def test_drop_rows_keeps_the_mean_and_drops_whole_rows() -> None:
    torch.manual_seed(0)
    kept = drop_rows(torch.ones(4000, 3), 0.25, training=True)
    assert ((kept == 0).all(1) | (kept == 1 / 0.75).all(1)).all()
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(drop_rows(kept, 0.9, training=False), kept)


def test_drop_path_rises_from_layer_to_layer() -> None:
    torch.manual_seed(0)
    layers = [nn.Identity() for _ in range(3)]
    add_drop_path([[layer] for layer in layers], 0.5)
    dropped = [float((layer(torch.ones(4000, 1)) == 0).float().mean()) for layer in layers]
    assert dropped[0] == 0 and dropped[1:] == pytest.approx([0.25, 0.5], abs=0.05)
    for layer in layers:
        layer.eval()
    assert all(bool((layer(torch.ones(9, 1)) == 1).all()) for layer in layers)


def test_dropout_of_no_rate_hooks_nothing() -> None:
    layer = nn.Identity()
    add_dropout([layer], 0.0)
    assert not layer._forward_hooks


def test_ofa_is_regularised_in_training_alone(tmp_path: object) -> None:
    folder = tiny_ofa.save_folder(tiny_ofa.tiny_net(), tmp_path)  # type: ignore[arg-type]
    plain = OfaParts(str(folder), "", tiny_ofa.IMAGE_SIZE).net.eval()
    net = OfaParts(str(folder), "", tiny_ofa.IMAGE_SIZE, dropout=0.1, drop_path=0.2).net
    pixels = torch.zeros(1, 3, tiny_ofa.IMAGE_SIZE, tiny_ofa.IMAGE_SIZE)
    ids = torch.tensor([[0, 5, 6, 2]])
    words = (pixels, ids, ids >= 0, ids[:, :2])
    with torch.no_grad():
        assert torch.equal(net.eval()(*words), plain(*words))
        net.train()
        assert not torch.equal(net(*words), net(*words))


def test_ofas_rates_are_those_of_its_own_tuning() -> None:
    grounder, entailment = OfaGrounderRecipe(root="x"), OfaEntailmentRecipe(root="x")
    assert (grounder.dropout, grounder.drop_path) == (entailment.dropout, entailment.drop_path) == (0.1, 0.2)
