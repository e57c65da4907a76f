"""UMT: its fusion against loops written from the paper's formulas, its loss, its folder, its features."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from namepin.tools.errors import NamepinError
from namepin.tools.models.umt_checkpoint import load_umt
from namepin.tools.nets.umt import GRID, Layer, Umt, UmtBatch, conversion_matrix
from support.tiny_umt import SIDE, save_tiny_umt, tiny_umt

PICTURE = Image.linear_gradient("L").convert("RGB")
TEXTS = ("the old town of velden", "nasa")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Umt:
    return tiny_umt(tmp_path_factory.mktemp("umt"))[0]


def batch(rows: int = 2, length: int = 6) -> UmtBatch:
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(rows, length, dtype=torch.bool)
    mask[-1, 3:] = False
    ids = torch.randint(5, 60, (rows, length), generator=generator)
    return UmtBatch(ids, mask, torch.randn(rows, 3, SIDE, SIDE, generator=generator))


def by_hand(layer: Layer, queries: Tensor, context: Tensor) -> Tensor:
    """One post, (Q, H) over (C, H), head by head and query by query."""
    hidden, heads = queries.shape[1], layer.attention.num_heads
    width = hidden // heads
    weight, bias = layer.attention.in_proj_weight, layer.attention.in_proj_bias
    q = queries @ weight[:hidden].T + bias[:hidden]
    k = context @ weight[hidden : 2 * hidden].T + bias[hidden : 2 * hidden]
    v = context @ weight[2 * hidden :].T + bias[2 * hidden :]
    found = torch.zeros_like(q)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(q)):
            share = torch.stack([q[i, part] @ key for key in k[:, part]]) / width**0.5
            found[i, part] = share.softmax(0) @ v[:, part]
    states = layer.attended(queries + layer.attention.out_proj(found))
    done: Tensor = layer.transformed(states + layer.narrow(torch.nn.functional.gelu(layer.widen(states))))
    return done


def test_umt_fusion_equals_paper_formulas(net: Umt) -> None:
    generator = torch.Generator().manual_seed(1)
    words, regions = torch.randn(5, 32, generator=generator), torch.randn(GRID**2, 12, generator=generator)
    with torch.no_grad():
        p = by_hand(net.regions_read_words, net.asking_regions(regions), words)
        a = by_hand(net.words_read_regions, words, p)
        q = by_hand(net.words_see, words, net.regions(regions))
        gate = torch.sigmoid(net.gate.weight @ torch.cat((a, q), 1).T + net.gate.bias[:, None]).T
        expected = torch.cat((a, gate * q), 1)
        found = net.fuse(words[None], torch.ones(1, 5, dtype=torch.bool), regions[None])[0]
        # Padding beside a post changes nothing of it.
        padded = torch.cat((words, torch.full((2, 32), 9.0)))[None]
        beside = net.fuse(padded, torch.tensor([[True] * 5 + [False] * 2]), regions[None])[0, :5]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(beside, expected, rtol=1e-4, atol=1e-5)


def test_umt_see_returns_seven_by_seven_regions(net: Umt) -> None:
    assert net.see(torch.randn(1, 3, 224, 224)).shape == (1, GRID**2, 12)
    assert net.see(torch.randn(1, 3, SIDE, SIDE)).shape == (1, GRID**2, 12)


def test_conversion_matrix_splits_span_tags_over_types() -> None:
    assert conversion_matrix(2).tolist() == [[1, 0, 0, 0, 0], [0, 0.5, 0, 0.5, 0], [0, 0, 0.5, 0, 0.5]]


def test_umt_emissions_average_both_paths(net: Umt) -> None:
    posts, pieces = batch(), torch.tensor([[1, 2, 4], [1, 1, 0]])
    with torch.no_grad():
        fused, spans = net(posts)
        emissions, span_emissions = net.emissions(posts, pieces)
        own = net.span_tags(spans[0, 2])
        expected = (net.tags(fused[0, 2]) + own @ conversion_matrix(4)) / 2
    assert emissions.shape == (2, 3, 9) and span_emissions.shape == (2, 3, 3)
    torch.testing.assert_close(emissions[0, 1], expected)
    torch.testing.assert_close(span_emissions[0, 1], own)


def test_umt_training_on_two_posts_learns_their_tags(tmp_path: Path) -> None:
    net, _ = tiny_umt(tmp_path)
    posts, pieces = batch(), torch.tensor([[1, 2, 4], [1, 2, 0]])
    tags, mask = torch.tensor([[1, 2, 0], [0, 5, 0]]), torch.tensor([[True, True, True], [True, True, False]])
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    first = float(net.loss(posts, pieces, mask, tags).detach())
    for _ in range(30):
        optimiser.zero_grad()
        loss = net.loss(posts, pieces, mask, tags)
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None for name, p in net.named_parameters())
        optimiser.step()
    assert float(loss.detach()) < first / 10
    assert net.decode(posts, pieces, mask) == [[1, 2, 0], [0, 5]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_umt(tmp_path_factory.mktemp("saved"))


def features(
    folder: Path, texts: tuple[str, ...] = TEXTS, pictures: tuple[Image.Image | None, ...] = (PICTURE, None)
) -> Tensor:
    with torch.inference_mode():
        return load_umt(folder).features(texts, pictures, 128, torch.device("cpu"))


def test_umt_features_are_deterministic_and_independent_of_batch(folder: Path) -> None:
    found = features(folder)
    assert found.shape == (2, 64) and torch.equal(found, features(folder))
    one = features(folder, TEXTS[:1], (PICTURE,))
    torch.testing.assert_close(one[0], found[0], rtol=1e-4, atol=1e-6)


def test_umt_features_depend_on_text_and_picture(folder: Path) -> None:
    both = features(folder)[0]
    for other in (features(folder, ("nasa", "nasa"))[0], features(folder, TEXTS, (None, None))[0]):
        assert (both - other).abs().max() > 1e-3
    # A post whose pieces all vanish still has a vector.
    assert features(folder, ("\u200b", "[SEP]"), (None, None)).isfinite().all()


def test_load_umt_of_damaged_folder_raises_coded_error(folder: Path, tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        return Path(shutil.copytree(folder, tmp_path / name))

    (at := broken("kind")).joinpath("config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(NamepinError, match="E212.*'bert'"):
        load_umt(at)
    (at := broken("half")).joinpath("config.json").write_text('{"model_type": "umt"}')
    with pytest.raises(NamepinError, match="E211.*incomplete"):
        load_umt(at)
    config = json.loads((folder / "config.json").read_text())
    (at := broken("types")).joinpath("config.json").write_text(json.dumps(config | {"num_types": 3}))
    with pytest.raises(NamepinError, match="E212.*shapes"):
        load_umt(at)
    weights = (folder / "model.safetensors").read_bytes()
    (at := broken("cut")).joinpath("model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(NamepinError, match="E211"):
        load_umt(at)
    with pytest.raises(NamepinError, match="E210"):
        load_umt(tmp_path / "nowhere")
