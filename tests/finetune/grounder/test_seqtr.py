"""SeqTR's recipe on a tiny net: bins are learnt, the vocabulary is the data's, the tool reads what is saved."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from namepin.finetune.grounder.ofa import train
from namepin.finetune.grounder.seqtr import NOWHERE, SeqtrTask, with_vocabulary
from namepin.finetune.recipes.grounder import SeqtrRecipe
from namepin.tools.errors import NamepinError
from namepin.tools.grounder.config import SeqtrGrounderConfig
from namepin.tools.grounder.seqtr import SeqtrGrounder
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import GroundRequest, ReferringQuery
from namepin.tools.media import Media
from support import tiny_seqtr
from support.tiny_world import write_world


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_seqtr.save(tiny_seqtr.tiny_net(), tmp_path_factory.mktemp("seqtr"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), posts=4)


def a_recipe(world: Path, weights: Path, out: Path, **changes: Any) -> SeqtrRecipe:
    given: dict[str, Any] = {"epochs": 2, "batch_size": 4, "cpu": True, "image_size": 64, "warmup": 0.0}
    return SeqtrRecipe(root=str(world), weights=str(weights), out=str(out), **(given | changes))


def test_seqtr_settings_are_those_of_riveg() -> None:
    recipe = SeqtrRecipe(root="x")
    assert (recipe.lr, recipe.batch_size, recipe.epochs, recipe.max_words) == (5e-4, 64, 10, 30)


def test_seqtr_loss_falls_to_the_smoothed_minimum_on_one_batch(world: Path, weights: Path, tmp_path: Path) -> None:
    task = SeqtrTask(a_recipe(world, weights, tmp_path, smoothing=0.0))
    batch = task.collate(list(task.train))
    assert batch["targets"].shape == (2, 5) and (batch["targets"][:, 4] == task.net.sizes.bins).all()
    optimiser = torch.optim.Adam([p for n, p in task.net.named_parameters() if not n.startswith("vis_enc")], lr=3e-3)
    losses = []
    for _ in range(40):
        loss = task.loss(task.net, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_seqtr_tool_answers_with_the_trained_weights(world: Path, weights: Path, tmp_path: Path) -> None:
    recipe = a_recipe(world, weights, tmp_path / "run")
    report = train(recipe)
    folder = Path(report["weights"])
    words = json.loads((folder / "token_to_ix.json").read_text())
    assert {"ada", "per"} <= set(words) or "ada (per)" in words
    tool = SeqtrGrounder(SeqtrGrounderConfig(weights=str(folder), image_size=64))
    row = SeqtrTask(recipe).dev[0]
    loaded = load_image(row.image)
    query = ReferringQuery(text=row.query.text, label="PER", category="PER", expression=row.expression)
    request = GroundRequest(image=loaded.ref, text=row.text, queries=(query,))
    (found,) = tool.run([request], Media(images={loaded.ref.sha256: loaded.image}))
    assert len(found.groundings) == 1 and not [n for n in found.notices if n.code == "W148"]


def test_seqtr_known_words_keep_their_embeddings() -> None:
    net, old = tiny_seqtr.tiny_net(), tiny_seqtr.WORDS
    word = next(word for word in old if word not in ("PAD", "UNK", "CLS"))
    new = {"PAD": 0, "UNK": 1, "CLS": 2, "unheard": 3, word: 4}
    fresh = with_vocabulary(net, old, new)
    assert torch.equal(fresh.lan_enc.embedding.weight[4], net.lan_enc.embedding.weight[old[word]])
    assert fresh.sizes.words == 5 and torch.equal(fresh.head.predictor[0].fc.weight, net.head.predictor[0].fc.weight)  # type: ignore[union-attr,operator,index]


def test_seqtr_learns_absence_as_the_empty_box(world: Path, weights: Path, tmp_path: Path) -> None:
    task = SeqtrTask(a_recipe(world, weights, tmp_path, ungroundable=True))
    absent = next(row for row in task.train if not row.boxes)
    assert task.collate([absent])["targets"].tolist() == [[*NOWHERE, task.net.sizes.bins]]


def test_seqtr_of_outlines_is_refused(world: Path, tmp_path: Path) -> None:
    outlines = tiny_seqtr.save(tiny_seqtr.tiny_net(tiny_seqtr.MASK), tmp_path)
    with pytest.raises(NamepinError, match="E217"):
        SeqtrTask(a_recipe(world, outlines, tmp_path))
    with pytest.raises(NamepinError, match="E210"):
        SeqtrTask(a_recipe(world, tmp_path / "nothing.pth", tmp_path))
