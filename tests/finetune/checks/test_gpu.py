"""The check for GPUs takes its steps on the sandbox's tiny nets; its figures at published sizes need a GPU."""

from pathlib import Path

import pytest
import torch

from namepin.finetune.checks.gpu import check, main
from namepin.tools.errors import NamepinError


def test_gpu_check_on_tiny_nets_reports_rate_and_loss_of_every_step(tmp_path: Path) -> None:
    found = check(tmp_path, tiny=True)
    sizes = {"llava-lora-bf16": 4, "blip": 4, "ofa": 32, "extractor-sft-bf16": 2, "extractor-grpo-bf16": 4}
    assert {name: figures["batch_size"] for name, figures in found.items()} == sizes, "the papers' batches, but ours"
    assert all(figures["rows_per_s"] > 0 and figures["tokens_per_row"] > 20 for figures in found.values())
    assert all(figures["loss"] > 0 for name, figures in found.items() if "grpo" not in name)


def test_gpu_check_without_gpu_raises_e216(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2 and "E216" in capsys.readouterr().err
    with pytest.raises(NamepinError, match="E207"):
        check(tmp_path, tiny=True, only=["lava"])
