"""LLaVA's own LoRA checkpoints: converted, they compute what merging by hand computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from namepin.tools.errors import NamepinError
from namepin.tools.loading.convert_llava import main
from namepin.tools.media import Media
from namepin.tools.reranker.config import LlavaRerankerConfig
from namepin.tools.reranker.llava import CONVERSATION, LlavaReranker
from namepin.tools.reranker.prompt import table7
from support import tiny_rerankers as tiny

MEDIA = Media(images={tiny.REF.sha256: tiny.PICTURE})
RANK, ALPHA = 4, 8
LAYERS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_llava(tmp_path_factory.mktemp("base"))


def original(folder: Path, base: Path, **changes: Any) -> tuple[Path, Any]:
    """A checkpoint as LLaVA's training leaves it, and the net with the same changes merged by hand."""
    net: Any = LlavaForConditionalGeneration.from_pretrained(base, attn_implementation="eager")
    torch.manual_seed(1)
    lora, full = {}, {}
    with torch.no_grad():
        for i, layer in enumerate(net.model.language_model.layers):
            for name in LAYERS:
                linear = layer.get_submodule(name)
                a = torch.randn(RANK, linear.in_features) * 0.2
                b = torch.randn(linear.out_features, RANK) * 0.2
                linear.weight += ALPHA / RANK * b @ a
                lora[f"base_model.model.model.layers.{i}.{name}.lora_A.weight"] = a
                lora[f"base_model.model.model.layers.{i}.{name}.lora_B.weight"] = b
        for index, name in (("0", "linear_1"), ("2", "linear_2")):
            for kind in ("weight", "bias"):
                target = getattr(net.model.multi_modal_projector.get_submodule(name), kind)
                target.mul_(1.5)
                full[f"base_model.model.model.mm_projector.{index}.{kind}"] = target.clone()
    folder.mkdir()
    torch.save(lora, folder / "adapter_model.bin")
    torch.save(full, folder / "non_lora_trainables.bin")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text("{}")
    tiny.edit_json(folder / "adapter_config.json", **(settings | changes))
    return folder, net.eval()


def test_convert_llava_adapter_equals_hand_merged_weights(base: Path, tmp_path: Path, capsys: Any) -> None:
    source, net = original(tmp_path / "llava-lora", base)
    assert main([str(source), str(tmp_path / "adapter"), "--base", str(base)]) == 0
    assert f"--set reranker.adapter={tmp_path / 'adapter'}" in capsys.readouterr().out
    config = LlavaRerankerConfig(weights=str(base), adapter=str(tmp_path / "adapter"), dtype="float32")
    tool, request = LlavaReranker(config), tiny.request(0)
    prompt = CONVERSATION.format(picture="<image>\n", query=table7(request))
    expected = tiny.naive_llava(net, tool.model.tokenizer, prompt, request.candidates)
    with torch.inference_mode():
        question = tool.model.question(table7(request), request, MEDIA)
        assert tool.model.read(question).log_likelihoods(question.answers) == pytest.approx(expected, rel=1e-4)
    other = tiny.save_llava(tmp_path / "other", seed=4)
    with pytest.raises(NamepinError, match="E219.*other weights"):
        LlavaReranker(LlavaRerankerConfig(weights=str(other), adapter=str(tmp_path / "adapter"), dtype="float32"))


def test_convert_llava_with_base_name_requires_that_base(base: Path, tmp_path: Path) -> None:
    source, _ = original(tmp_path / "source", base)
    named = ["--base", "llava-hf/llava-1.5-7b-hf", "--revision", "abc"]
    assert main([str(source), str(tmp_path / "adapter"), *named]) == 0
    with pytest.raises(NamepinError, match="E219.*llava-hf/llava-1.5-7b-hf"):
        config = LlavaRerankerConfig(weights=str(base), adapter=str(tmp_path / "adapter"), dtype="float32")
        LlavaReranker(config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"peft_type": "IA3"}, "E212.*not describe a LoRA"), ({"r": 64}, "E212.*rank 64"), ({"r": None}, "E212")],
)
def test_convert_llava_of_non_lora_exits_2(base: Path, tmp_path: Path, capsys: Any, changes: Any, said: str) -> None:
    source, _ = original(tmp_path / "source", base, **changes)
    assert main([str(source), str(tmp_path / "adapter"), "--base", str(base)]) == 2
    import re

    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "adapter").exists()


def test_convert_llava_with_unknown_or_damaged_tensors_exits_2(base: Path, tmp_path: Path, capsys: Any) -> None:
    source, _ = original(tmp_path / "source", base)
    arguments = [str(source), str(tmp_path / "adapter"), "--base", str(base)]
    state = torch.load(source / "adapter_model.bin", weights_only=True)
    torch.save({**state, "base_model.model.lm_head.weight": torch.zeros(2)}, source / "adapter_model.bin")
    assert main(arguments) == 2 and "1 tensors are unknown" in capsys.readouterr().err
    data = (source / "non_lora_trainables.bin").read_bytes()
    torch.save(state, source / "adapter_model.bin")
    (source / "non_lora_trainables.bin").write_bytes(data[: len(data) // 2])
    assert main(arguments) == 2 and "E211" in capsys.readouterr().err
    torch.save({"run": print}, source / "non_lora_trainables.bin")
    assert main(arguments) == 2 and "E214" in capsys.readouterr().err
    (source / "adapter_model.bin").unlink()
    assert main(arguments) == 2 and "E210" in capsys.readouterr().err
