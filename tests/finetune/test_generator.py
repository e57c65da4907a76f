"""The unified generative baseline on a tiny T5: it learns its sequences, and its folder predicts."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, ResNetConfig, ResNetModel, T5Config, T5ForConditionalGeneration

from namepin.evals.run import load_dataset
from namepin.evals.scoring.predictions import read_predictions
from namepin.finetune.generator import Generated, GeneratorTask, main, parse_sequence, sequence_of, train
from namepin.finetune.recipes.generator import GeneratorRecipe
from namepin.tools.errors import NamepinError
from support.eval_samples import gold
from support.tiny_world import NAMES, write_world

WORDS = ["<pad>", "</s>", "<unk>", *NAMES, "runs", "PER", "LOC", "|", ";", "none", *map(str, range(10))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_world(tmp_path_factory.mktemp("world"), posts=6)
    for split in ("train", "dev"):
        rows = [
            {"id": f"{split}{n}", "regions": [[40, 40, 47, 47], [8 * (n % 3), 8, 8 * (n % 3) + 20, 30]]}
            for n in range(6)
        ]
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )
    fast.save_pretrained(root / "t5")
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
    config = T5Config(vocab_size=len(WORDS), decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **sizes)
    T5ForConditionalGeneration(config).save_pretrained(root / "t5")
    ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    ).save_pretrained(root / "resnet")
    return root


def a_recipe(world: Path, out: Path, **changes: object) -> GeneratorRecipe:
    given = {
        "root": str(world), "out": str(out), "weights": str(world / "t5"), "vision": str(world / "resnet"),
        "regions": str(world / "train.jsonl"), "dev_regions": str(world / "dev.jsonl"), "region_size": 32,
        "epochs": 2, "batch_size": 6, "cpu": True, "longest": 8, "lr": 5e-3, "warmup": 0.0,
    }  # fmt: skip
    return GeneratorRecipe(**given | changes)  # type: ignore[arg-type]


def test_sequence_of_a_post_names_entities_types_and_regions() -> None:
    post = gold("1", "Ada sees Rome and Ada", (0, 1, "PER", [(0, 0, 10, 10)]), (2, 3, "LOC"), (4, 5, "PER"))
    boxes = [(50.0, 50.0, 60.0, 60.0), (0.0, 0.0, 10.0, 11.0)]
    written = sequence_of(post, boxes)
    assert written == "Ada | PER | 1 ; Rome | LOC | none ; Ada | PER | none"
    assert parse_sequence(written, post.post.tokens or (), 2) == [
        Generated((0, 1), "PER", 1),
        Generated((2, 3), "LOC", None),
        Generated((4, 5), "PER", None),
    ]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("", []),
        ("Ada | PER", []),
        ("Zoe | PER | 0", []),
        ("ADA BELL | PER | 0", [Generated((0, 2), "PER", 0)]),
        ("Ada Bell | PER | 7", [Generated((0, 2), "PER", None)]),
        ("Ada Bell | PER | 0 ; Ada Bell | PER | 0 ; Bell | LOC | 0", [Generated((0, 2), "PER", 0)]),
        ("| | ; Rome | LOC | ² ;", [Generated((3, 4), "LOC", None)]),
    ],
)
def test_answer_of_any_form_gives_only_entities_of_the_text(answer: str, found: list[Generated]) -> None:
    assert parse_sequence(answer, ("Ada", "Bell", "sees", "Rome"), 2) == found


def test_generator_learns_its_sequences_by_heart(world: Path, tmp_path: Path) -> None:
    task = GeneratorTask(a_recipe(world, tmp_path))
    batch = task.collate(list(task.train))
    assert batch["seen"].sum() == len(batch["pixels"]) == 12 and batch["places"].max() <= 1
    optimiser = torch.optim.Adam([p for p in task.net.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for _ in range(60):
        loss = task.loss(task.net, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_generator_folder_predicts_what_eval_reads(world: Path, tmp_path: Path) -> None:
    report = train(a_recipe(world, tmp_path / "run"))
    out = tmp_path / "predictions.jsonl"
    words = [report["weights"], "--root", str(world), "--split", "dev"]
    main([*words, "--regions", str(world / "dev.jsonl"), "--out", str(out)])
    data = load_dataset("gmner", world, "dev")
    found = read_predictions(out, data)
    assert len(out.read_text().splitlines()) == 6 and not found.missing
    with pytest.raises(NamepinError, match="E210"):
        main([str(tmp_path), *words[1:], "--regions", str(world / "dev.jsonl"), "--out", str(out)])


def test_generator_without_regions_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E130"):
        GeneratorTask(a_recipe(world, tmp_path, regions=""))
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "x", "regions": []}\n')
    with pytest.raises(NamepinError, match="E135"):
        GeneratorTask(a_recipe(world, tmp_path, regions=str(other)))
