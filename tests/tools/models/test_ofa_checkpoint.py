"""OFA's weights: both published forms, names used or known to be of no use, bad files, the vocabulary."""

import argparse
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from namepin.tools.errors import NamepinError
from namepin.tools.loading.fairseq import read_fairseq
from namepin.tools.loading.pretrained import weights_sha256
from namepin.tools.models.ofa_checkpoint import from_state, load_ofa
from namepin.tools.models.ofa_vocabulary import load_vocabulary
from namepin.tools.nets.ofa import Ofa, OfaSizes
from support import tiny_ofa


@pytest.fixture(scope="module")
def net() -> Ofa:
    return tiny_ofa.tiny_net()


@pytest.fixture
def folder(net: Ofa, tmp_path: Path) -> Path:
    return tiny_ofa.save_folder(net, tmp_path / "folder")


def same(one: Ofa, other: Ofa) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in pairs)


def test_load_ofa_of_every_checkpoint_form_gives_equal_net(net: Ofa, folder: Path, tmp_path: Path) -> None:
    pickled = tiny_ofa.save_folder(net, tmp_path / "pickled", pickled=True)
    for path in (folder, pickled, tiny_ofa.save_original(net, tmp_path / "original")):
        loaded = load_ofa(path, weights_sha256(path), tokenizer="nowhere")
        assert loaded.net.sizes == tiny_ofa.SIZES
        assert same(loaded.net, net) and not loaded.net.training
        assert loaded.vocabulary.identity == tiny_ofa.tiny_words().identity
        assert (loaded.vocabulary.first_bin, loaded.vocabulary.size) == (
            len(tiny_ofa.PIECES) + 16,
            tiny_ofa.SIZES.vocabulary,
        )


def test_load_ofa_without_vocabulary_uses_configured_tokenizer(net: Ofa, folder: Path, tmp_path: Path) -> None:
    path = tiny_ofa.save_original(net, tmp_path / "bare")
    (path.parent / "vocab.json").unlink()
    assert load_ofa(path, "x", tokenizer=str(folder)).vocabulary.identity == tiny_ofa.tiny_words().identity


def test_ofa_identity_depends_on_weights_settings_and_vocabulary(net: Ofa, tmp_path: Path) -> None:
    path = tiny_ofa.save_original(net, tmp_path)
    identities = {load_ofa(path, "a", tokenizer="nowhere").identity, load_ofa(path, "b", tokenizer="nowhere").identity}
    identities.add(load_ofa(tiny_ofa.save_original(net, tmp_path, sync_bn=True), "a", tokenizer="nowhere").identity)
    assert len(identities) == 3
    assert load_ofa(tiny_ofa.save_original(net, tmp_path), "a", tokenizer="nowhere").identity in identities


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({}, "batch_norm_eps", 1e-5),
        ({"sync_bn": True}, "batch_norm_eps", 1e-3),
        ({"disable_entangle": False}, "entangled", True),
        ({"disable_entangle": True}, "entangled", False),
        ({"attn_scale_factor": 1.0}, "attn_scale_factor", 1.0),
    ],
)
def test_ofa_sizes_without_shape_evidence_come_from_settings(
    net: Ofa, settings: dict[str, Any], field: str, value: Any
) -> None:
    loaded = from_state(tiny_ofa.original_state(net), settings, "x")
    assert getattr(loaded.sizes, field) == value


def test_ofa_sizes_of_scale_tensors_follow_state_dict() -> None:
    sizes = OfaSizes(
        **{**vars(tiny_ofa.SIZES), "scale_attn": False, "scale_fc": False, "scale_heads": False, "scale_resids": True}
    )
    plain = tiny_ofa.tiny_net(sizes=sizes)
    loaded = from_state(tiny_ofa.original_state(plain), {}, "x")
    assert loaded.sizes == sizes and same(loaded, plain)


def test_ofa_state_in_half_precision_is_converted_to_float32(net: Ofa) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in tiny_ofa.original_state(net).items()}
    assert {value.dtype for value in from_state(state, {}, "x").parameters()} == {torch.float32}


def without(key: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.pop(key)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (without("encoder.layers.1.fc2.bias"), "E212", "encoder.layers.1.fc2.bias"),
        (without("encoder.embed_tokens.weight"), "E212", "encoder.embed_tokens.weight"),
        (without("decoder.cross_pos_q_linear.weight"), "E212", "decoder.cross_pos_q_linear.weight"),
        (without("encoder.embed_images.layer2.0.bn1.running_var"), "E212", "running_var"),
        (lambda state: state.update({"encoder.layers.0.adapter.down_proj.weight": torch.zeros(2)}), "E212", "adapter"),
        (lambda state: state.update({"decoder.embed_tokens.weight": torch.zeros(2, 2)}), "E212", "different token"),
        (lambda state: state.update({"encoder.image_proj.weight": torch.zeros(32, 7)}), "E212", "another shape"),
        (
            lambda state: state.update({"encoder.token_rel_pos_table_list.0.weight": torch.zeros(31, 5)}),
            "E212",
            "no OFA",
        ),
        (lambda state: state.update({"encoder.embed_positions.weight": torch.zeros(500, 32)}), "E212", "no OFA"),
        (lambda state: state["encoder.layers.0.fc1.bias"].fill_(torch.nan), "E211", "not finite"),
    ],
)
def test_ofa_state_with_wrong_tensors_raises_e212(
    net: Ofa, change: Callable[[dict[str, Tensor]], object], code: str, said: str
) -> None:
    state = tiny_ofa.original_state(net)
    change(state)
    with pytest.raises(NamepinError, match=said) as caught:
        from_state(state, {}, "weights.pt")
    assert caught.value.code == code and "weights.pt" in str(caught.value)


def test_ofa_state_with_heads_of_other_tasks_ignores_them(net: Ofa) -> None:
    state = tiny_ofa.original_state(net) | {"classification_heads.mnli.dense.weight": torch.zeros(2)}
    assert same(from_state(state, {}, "x"), net)


@pytest.mark.parametrize(
    "settings",
    [
        {"activation_fn": "relu"},
        {"scale_embedding": True},
        {"no_scale_embedding": False},
        {"interpolate_position": True},
        {"attn_scale_factor": "two"},
        {"attn_scale_factor": 0},
        {"attn_scale_factor": None},
    ],
)
def test_ofa_settings_with_unsupported_value_raise_e212(net: Ofa, settings: dict[str, Any]) -> None:
    with pytest.raises(NamepinError, match=next(iter(settings))) as caught:
        from_state(tiny_ofa.original_state(net), settings, "x")
    assert caught.value.code == "E212"


def odd_config(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**settings, "code_dict_size": "many"}), encoding="utf-8")


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bart"}')


def broken_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])


def no_words(folder: Path) -> None:
    (folder / "vocab.json").unlink()


def other_words(folder: Path) -> None:
    words = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    del words["<mask>"]
    (folder / "vocab.json").write_text(json.dumps(words), encoding="utf-8")


def torn_words(folder: Path) -> None:
    (folder / "merges.txt").write_text("#version: 0.2\nq zz\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (broken_config, "E212"),
        (odd_config, "E212"),
        (broken_weights, "E211"),
        (no_words, "E218"),
        (other_words, "E218"),
        (torn_words, "E211"),
        (lambda folder: (folder / "config.json").unlink(), "E210"),
        (lambda folder: (folder / "model.safetensors").unlink(), "E210"),
    ],
)
def test_load_ofa_of_bad_folder_raises_coded_error(folder: Path, harm: Callable[[Path], None], code: str) -> None:
    harm(folder)
    with pytest.raises(NamepinError) as caught:
        load_ofa(folder, "x", tokenizer="nowhere")
    assert caught.value.code == code


class _Runs:
    def __reduce__(self) -> Any:
        return print, ("this must not run",)


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda path: torch.save({"model": {"a": torch.ones(1)}, "cfg": _Runs()}, path), "E214"),
        (lambda path: torch.save({"model": {"a": torch.ones(1)}, "cfg": Path("x")}, path), "E214"),
        (lambda path: torch.save({"model": {}, "cfg": {}}, path), "E212"),
        (lambda path: torch.save([1, 2], path), "E212"),
        (lambda path: torch.save({"model": {"a": torch.ones(1)}, "cfg": {"model": [1], "task": "x"}}, path), "E212"),
        (lambda path: path.write_bytes(b"not a checkpoint"), "E211"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3000]), "E211"),
        (lambda path: (path.parent / "merges.txt").unlink(), "E218"),
    ],
)
def test_load_ofa_of_bad_file_raises_coded_error_and_runs_no_code(
    net: Ofa, tmp_path: Path, harm: Callable[[Path], None], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_ofa.save_original(net, tmp_path)
    harm(path)
    with pytest.raises(NamepinError) as caught:
        load_ofa(path, "x", tokenizer="nowhere")
    assert caught.value.code == code
    assert "must not run" not in capsys.readouterr().out


def test_read_fairseq_settings_of_omegaconf_load_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects shaped as OmegaConf pickles its own, of a module that is gone when they are read."""
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = type("DictConfig", (), {"__module__": "omegaconf.dictconfig"})  # type: ignore[attr-defined]
    module.AnyNode = type("AnyNode", (), {"__module__": "omegaconf.dictconfig"})  # type: ignore[attr-defined]

    def made(kind: str, **state: Any) -> Any:
        value = getattr(module, kind)()
        value.__dict__.update(state)
        return value

    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        patched.setitem(sys.modules, "omegaconf.dictconfig", module)
        bins = made("AnyNode", _metadata={"ref_type": int}, _val=1000)
        task = made("DictConfig", _content={"num_bins": bins, "name": "refcoco"}, _parent=None)
        cfg = {"model": argparse.Namespace(arch="ofa_base", layers=[1, (2, 3)]), "task": task}
        torch.save({"cfg": cfg, "model": {"a": torch.ones(2)}}, tmp_path / "x.pt")
    tensors, settings = read_fairseq(tmp_path / "x.pt")
    assert tensors.keys() == {"a"}
    assert settings == {
        "model": {"arch": "ofa_base", "layers": [1, [2, 3]]},
        "task": {"num_bins": 1000, "name": "refcoco"},
    }


def test_ofa_original_vocabulary_gives_same_ids_as_folder(tmp_path: Path) -> None:
    """utils/BPE: GPT-2's numbers in encoder.json, fairseq's order in dict.txt."""
    tiny_ofa.save_folder(tiny_ofa.tiny_net(), tmp_path / "one")
    pieces = tiny_ofa.PIECES[4:-1]
    numbers = {piece: len(pieces) - number for number, piece in enumerate(pieces)}
    other = tmp_path / "other"
    other.mkdir()
    (other / "encoder.json").write_text(json.dumps(numbers), encoding="utf-8")
    (other / "dict.txt").write_text("".join(f"{numbers[piece]} 7\n" for piece in pieces), encoding="utf-8")
    (other / "vocab.bpe").write_text((tmp_path / "one" / "merges.txt").read_text(encoding="utf-8"), encoding="utf-8")
    one, two = (load_vocabulary(str(tmp_path / name), tiny_ofa.SIZES.vocabulary, 16, 1000) for name in ("one", "other"))
    assert one.identity == two.identity
    text = ' Yes, no: "Ünïcödé" 🙂 <bin_3> </s>'
    assert one.ids(text) == two.ids(text)


def test_ofa_vocabulary_reads_special_tokens_in_text_as_letters() -> None:
    words = tiny_ofa.tiny_words()
    ids = words.ids("<s></s><pad><mask><code_1><bin_999> yes")
    assert min(ids) >= 4 and max(ids) < len(tiny_ofa.PIECES) - 1
    assert ids[-1] == tiny_ofa.VOCABULARY["Ġyes"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Eileen Collins (PER)-An astronaut", "eileen collins (per) an astronaut"),
        (".,!?*#:;~ No", "no"),
        ("...a/b  c\t\n d\n", "a b c d"),
        ("a <person> walks.", "a person walks."),
        ("", ""),
        ("Ünïcödé 🙂", "ünïcödé 🙂"),
    ],
)
def test_ofa_normalise_text_equals_reference_spelling(text: str, wanted: str) -> None:
    assert tiny_ofa.tiny_words().normalise_text(text) == (wanted, False)


@pytest.mark.parametrize(
    ("text", "words", "cut"),
    [
        ("w " * 80, 80, False),
        ("w " * 81, 80, True),
        ("w " * 5000, 80, True),
        ("x" * 5000, 1, True),
        ("🙂" * 900, 1, True),
    ],
)
def test_ofa_normalise_text_truncates_long_text(text: str, words: int, cut: bool) -> None:
    vocabulary = tiny_ofa.tiny_words()
    kept, was_cut = vocabulary.normalise_text(text)
    assert was_cut is cut and len(kept.split(" ")) == words
    assert text.startswith(kept) and len(vocabulary.ids(kept)) <= 403
