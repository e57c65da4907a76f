"""Posts written in other ways, and the table of a tagger's figures on them."""

import dataclasses
from pathlib import Path

import pytest
import torch

from namepin.finetune.checks.robustness import FORMS, main, table, with_handle, with_hashtags
from namepin.finetune.recipes.tagger import TaggerRecipe
from namepin.finetune.tagger.data import Example, Span
from namepin.finetune.tagger.train import train
from support import tiny_encoders

POST = Example("1", ("Ada", "Bell", "is", "in", "#", "Oslo"), (Span(0, 2, "PER"), Span(5, 6, "LOC")))
TEXT = "IMGID:{}\nAda\tB-person\tB-actor\nBell\tI-person\tI-actor\nin\tO\tO\nOslo\tB-location\tB-city\n\n"


def names(example: Example) -> list[str]:
    return [" ".join(example.words[span.start : span.end]) for span in example.spans]


def test_forms_move_the_gold_spans_with_the_names() -> None:
    assert names(with_handle(POST)) == ["Ada Bell", "Oslo"]
    assert with_handle(POST).words[:3] == ("@", "adabell", "Ada")
    assert with_hashtags(POST).words == ("#", "AdaBell", "is", "in", "#", "Oslo")
    assert names(with_hashtags(POST)) == ["AdaBell", "Oslo"]
    assert names(FORMS["all caps"](POST)) == ["ADA BELL", "OSLO"] and names(FORMS["lower case"](POST))[1] == "oslo"


def test_form_of_a_post_without_names_has_no_handle() -> None:
    plain = dataclasses.replace(POST, spans=())
    assert with_handle(plain) == with_hashtags(plain) == plain


def test_table_leaves_out_fine_types_that_are_not_known() -> None:
    assert table([("a", 0.5, 0.25), ("b", 1.0, None)]).endswith("| a | 50.00 | 25.00 |\n| b | 100.00 |  |")


def test_command_prints_a_table_for_each_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    (tmp_path / "fmnerg" / "txt_fine").mkdir(parents=True)
    for split in ("train", "dev"):
        (tmp_path / "fmnerg" / "txt_fine" / f"{split}.txt").write_text("".join(TEXT.format(i) for i in range(16)))
    (tmp_path / "ccby" / "btc").mkdir(parents=True)
    (tmp_path / "ccby" / "btc" / "a.conll").write_text("Oslo\tB-LOC\nis\tO\n\n" * 4)
    tiny_encoders.save_tiny_bert(tmp_path / "bert")
    recipe = TaggerRecipe(
        data=str(tmp_path), out=str(tmp_path / "run"), encoder=str(tmp_path / "bert"), dataset="fmnerg", epochs=8,
        batch_size=4, knowledge=0.0, lr_encoder=2e-3, lr_heads=1e-2, ema=0.0, precision="no", threads=1, cpu=True,
    )  # fmt: skip
    adapter = train(recipe)["adapter"]
    torch.set_num_threads(threads)
    main([adapter, "--data", str(tmp_path)])
    out = capsys.readouterr().out
    assert f"{adapter}\n| posts | 4 types | 51 types |" in out and "| as published | 100.00 | 100.00 |" in out
    assert "| Broad Twitter Corpus |" in out and "companies with an &amp; found:" in out and " of 24" in out
