"""A language model's GGUF file as a transformers folder."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from namepin.tools.errors import NamepinError
from namepin.tools.loading.convert_gguf import convert, main
from namepin.tools.media import Media
from namepin.tools.reranker.config import TextRerankerConfig
from namepin.tools.reranker.text import TextReranker
from support.tiny_rerankers import LLAMA, filled, request

TEMPLATE = "{% for message in messages %}<user>{{ message['content'] }}<answer>{% endfor %}"
WORDS = ["<|endoftext|>", "<user>", "<answer>", *(chr(code) for code in range(33, 127)), "Ġ", "Ċ", "Ġa", "he", "in"]
MERGES = ["Ġ a", "h e", "i n"]


def tiny_llama() -> LlamaForCausalLM:
    net: LlamaForCausalLM = filled(LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), **LLAMA)))
    return net


def interleaved(weight: torch.Tensor) -> torch.Tensor:
    """The rows of a query's or key's weights as llama.cpp orders them: the halves of a head's rotation take turns."""
    heads = LLAMA["num_attention_heads"]
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(net: LlamaForCausalLM, file: Path) -> None:
    """The net with a byte-pair tokenizer, as llama.cpp's converter writes it, without quantisation."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(LLAMA["num_hidden_layers"])
    writer.add_context_length(LLAMA["max_position_embeddings"])
    writer.add_embedding_length(LLAMA["hidden_size"])
    writer.add_feed_forward_length(LLAMA["intermediate_size"])
    writer.add_head_count(LLAMA["num_attention_heads"])
    writer.add_head_count_kv(LLAMA["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(net.config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3, *[1] * (len(WORDS) - 3)])  # control tokens, and ordinary ones
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_chat_template(TEMPLATE)
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    tensors: dict[str, torch.Tensor] = {
        "token_embd.weight": net.model.embed_tokens.weight,
        "output_norm.weight": net.model.norm.weight,
        "output.weight": net.lm_head.weight,
    }
    for number, layer in enumerate(net.model.layers):
        for ours, theirs in parts.items():
            weight: Any = layer.get_submodule(ours).weight
            swapped = interleaved(weight) if theirs in ("attn_q", "attn_k") else weight
            tensors[f"blk.{number}.{theirs}.weight"] = swapped
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor.detach().numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_convert_gguf_gives_the_same_net_tokenizer_and_template(tmp_path: Path) -> None:
    net, file, out = tiny_llama(), tmp_path / "tiny.gguf", tmp_path / "out"
    write_gguf(net, file)
    assert convert(file, out) == "LlamaForCausalLM"
    read = LlamaForCausalLM.from_pretrained(out)
    ids = torch.tensor([[5, 60, 7, 8, 30]])
    with torch.inference_mode():
        assert torch.allclose(read(ids).logits, net(ids).logits, atol=1e-5)
    words = AutoTokenizer.from_pretrained(out)
    assert words.decode(words("the inn")["input_ids"]) == "the inn" and words.eos_token_id == 0
    assert words.chat_template == TEMPLATE


def test_converted_gguf_serves_as_text_reranker(tmp_path: Path) -> None:
    write_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    assert main([str(tmp_path / "tiny.gguf"), str(tmp_path / "out")]) == 0
    tool = TextReranker(TextRerankerConfig(weights=str(tmp_path / "out"), dtype="float32"))
    (answer,) = tool.run([request(image=None)], Media())
    assert answer.label in request().candidates and sum(answer.scores.values()) == pytest.approx(1)


def test_convert_gguf_without_a_tensor_is_refused_not_filled_at_random(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write_gguf(tiny_llama(), file)
    file.write_bytes(file.read_bytes().replace(b"blk.1.ffn_up", b"blk.1.ffn_oo"))
    with pytest.raises(NamepinError, match=r"E21[12].*(missing|blk\.1\.ffn_oo)"):
        convert(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_convert_gguf_of_truncated_file_raises_e211(share: float, tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write_gguf(tiny_llama(), file)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(NamepinError, match="E211"):
        convert(file, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "code"), [(None, "E210"), (b"a picture", "E212"), (b"GGUF" + b"\xff" * 40, "E211")]
)
def test_convert_gguf_of_bad_file_ends_in_one_line(
    content: bytes | None, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.gguf"
    if content is not None:
        file.write_bytes(content)
    assert main([str(file), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(code) and error.count("\n") == 1 and not (tmp_path / "out").exists()
