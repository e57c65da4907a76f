"""ALBEF: logits against a pass written out by hand and against golden arrays, sentences, both heads, bad weights."""

import io
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from namepin.tools.entailment.albef import AlbefEntailment, as_albef, as_lavis, pad, probabilities
from namepin.tools.entailment.config import AlbefEntailmentConfig
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.images.tensors import squash
from namepin.tools.interfaces import Entailments, EntailRequest, ReferringQuery
from namepin.tools.media import Media
from namepin.tools.models.albef_checkpoint import from_state, resize_positions
from namepin.tools.nets.albef import Albef
from support import tiny_albef, tiny_blip
from support.paths import GOLDEN
from support.tiny_blip import PICTURE, image_ref

REF = image_ref(PICTURE)
GOLDEN_FILE = GOLDEN / "albef_tiny.npz"
EXPRESSIONS = ("Ada Example (PER) – a woman, smiling", "NASA (ORG) – logo", "b (LOC) – re-entry of a rocket")


def query(expression: str) -> ReferringQuery:
    return ReferringQuery(text=expression.split(" (")[0], label="PER", category="PER", expression=expression)


def a_request(*expressions: str, image: Image.Image = PICTURE, key: str = "ab") -> EntailRequest:
    return EntailRequest(image=image_ref(image, key), text="a post", queries=tuple(map(query, expressions)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tiny_albef.save(tiny_albef.tiny_net(), tmp_path_factory.mktemp("albef"))


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_tool(saved: tuple[Path, Path], **settings: Any) -> AlbefEntailment:
    given: dict[str, Any] = {"weights": str(saved[0]), "tokenizer": str(saved[1]), "image_size": 64}
    return AlbefEntailment(AlbefEntailmentConfig(**given | settings))


def scores(found: Entailments) -> list[float]:
    return [entailment.score for entailment in found.entailments]


def by_hand(state: dict[str, Tensor], pixels: Tensor, ids: list[int]) -> Tensor:
    """The logits of one picture and one sentence, a head at a time."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, x: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = []
        for head in range(q.shape[-1] // 64):
            part = slice(64 * head, 64 * head + 64)
            heads.append((q[:, part] @ k[:, part].T / 8).softmax(-1) @ v[:, part])
        return torch.cat(heads, dim=-1)

    def text_attention(name: str, x: Tensor, source: Tensor) -> Tensor:
        q, k, v = linear(f"{name}.self.query", x), *(linear(f"{name}.self.{part}", source) for part in ("key", "value"))
        return norm(f"{name}.output.LayerNorm", linear(f"{name}.output.dense", attend(q, k, v)) + x, 1e-12)

    eyes, words = "visual_encoder", "text_encoder"
    patches = [state[f"{eyes}.cls_token"][0, 0]]
    for row in range(0, 64, 16):
        for column in range(0, 64, 16):
            cut = pixels[:, row : row + 16, column : column + 16]
            weight, bias = state[f"{eyes}.patch_embed.proj.weight"], state[f"{eyes}.patch_embed.proj.bias"]
            patches.append((weight * cut).sum((1, 2, 3)) + bias)
    x = torch.stack(patches) + state[f"{eyes}.pos_embed"][0]
    for i in range(2):
        block = f"{eyes}.blocks.{i}"
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x, 1e-6)).chunk(3, dim=-1)
        x = x + linear(f"{block}.attn.proj", attend(q, k, v))
        inner = functional.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x, 1e-6)))
        x = x + linear(f"{block}.mlp.fc2", inner)
    seen = norm(f"{eyes}.norm", x, 1e-6)
    tables = [state[f"{words}.embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")]
    y = norm(f"{words}.embeddings.LayerNorm", tables[0][ids] + tables[1][: len(ids)] + tables[2][0], 1e-12)
    for i in range(4):
        layer = f"{words}.encoder.layer.{i}"
        y = text_attention(f"{layer}.attention", y, y)
        if i >= 2:
            y = text_attention(f"{layer}.crossattention", y, seen)
        inner = functional.gelu(linear(f"{layer}.intermediate.dense", y))
        y = norm(f"{layer}.output.LayerNorm", linear(f"{layer}.output.dense", inner) + y, 1e-12)
    return linear("cls_head.2", linear("cls_head.0", y[0]).relu())


def test_albef_scores_equal_hand_written_pass(saved: tuple[Path, Path], media: Media) -> None:
    tool = a_tool(saved)
    (found,) = tool.run([a_request(*EXPRESSIONS)], media)
    state, pixels = tiny_albef.tiny_net().state_dict(), squash(PICTURE, 64)
    for expression, entailment in zip(EXPRESSIONS, found.entailments, strict=True):
        ids = tool.read(expression)[0]
        assert ids[0] == tool.model.tokenizer.cls_token_id and ids[-1] != tool.model.tokenizer.sep_token_id
        logits = by_hand(state, pixels, ids).double()
        assert entailment.score == pytest.approx(float(torch.sigmoid(logits[2] - logits[0])), rel=1e-5)
        assert entailment.label == ("entailment" if logits[2] >= logits[0] else "contradiction")


def test_albef_logits_equal_golden_arrays() -> None:
    golden = np.load(GOLDEN_FILE)
    net = tiny_albef.tiny_net()
    ids, mask = pad([[2, 9, 11, 40], [2, 13]], 0)
    with torch.inference_mode():
        patches = net.encode(squash(PICTURE, 64)[None])
        logits = net(patches, ids, mask).numpy()
    for name, found in (("patches", patches.numpy()), ("logits", logits)):
        assert np.abs(found - golden[name]).max() <= 1e-5 * np.abs(golden[name]).max()


def test_albef_probabilities_of_two_and_three_classes_agree() -> None:
    three = torch.tensor([[0.0, 9.0, 1.0], [2.0, 0.0, -1.0]])
    assert (
        probabilities(three)
        == probabilities(three[:, [0, 2]])
        == pytest.approx([1 / (1 + np.e**-1), 1 / (1 + np.e**3)])
    )


def test_albef_with_two_class_checkpoint_returns_distinct_scores(tmp_path: Path, media: Media) -> None:
    found = a_tool(tiny_albef.save(tiny_albef.tiny_net(classes=2), tmp_path)).run([a_request(*EXPRESSIONS)], media)[0]
    assert len(found.entailments) == 3 and len(set(scores(found))) == 3


def test_albef_from_folder_equals_checkpoint_file(saved: tuple[Path, Path], tmp_path: Path, media: Media) -> None:
    folder = tmp_path / "tuned"
    tiny_blip.tiny_tokenizer().save_pretrained(folder)
    save_file(tiny_albef.tiny_net().state_dict(), folder / "model.safetensors")
    tool = a_tool((folder, tmp_path / "nowhere"))
    assert tool.run([a_request(*EXPRESSIONS)], media) == a_tool(saved).run([a_request(*EXPRESSIONS)], media)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(NamepinError, match="E211"):
        a_tool((folder, tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("expression", "read", "cut"),
    [
        ("Ada Example (PER) – a woman, smiling!", "ada example per – a woman smiling", False),
        ('re-entry/launch #1: "Pad 39A"; it\'s~ *here*?', "re entry launch 1 pad 39a its here", False),
        ("<person>  waves \n", "person waves", False),
        ("[SEP] [CLS] x", "[sep] [cls] x", False),
        ("word " * 31, "word " * 29 + "word", True),
        ("word " * 30, "word " * 29 + "word", False),
    ],
)
def test_as_albef_normalises_and_truncates_expression(expression: str, read: str, cut: bool) -> None:
    assert as_albef(expression, 30) == (read, cut)


def test_as_lavis_normalises_and_truncates_expression(saved: tuple[Path, Path], media: Media) -> None:
    assert as_lavis("Ada's (PER) – a re-entry, #1!", 50) == ("ada's per – a re-entry, 1", False)
    assert as_lavis("word " * 51, 50) == ("word " * 49 + "word", True)
    tool = a_tool(saved, spelling="lavis")
    words = tool.model.tokenizer
    ids, cut = tool.read("Ada")
    assert (ids[0], ids[-1], cut) == (words.cls_token_id, words.sep_token_id, False)
    assert ids[1:-1] == a_tool(saved).read("Ada")[0][1:]
    ids, cut = tool.read("a b c d e " * 9)
    assert len(ids) == 40 and ids[-1] == words.sep_token_id and cut


def test_albef_checkpoint_of_lavis_is_detected_by_missing_type_embeddings(tmp_path: Path, media: Media) -> None:
    net = tiny_albef.tiny_net(kinds=False)
    tool = a_tool(tiny_albef.save(net, tmp_path))
    ids, _ = tool.read(EXPRESSIONS[0])
    assert ids[-1] == tool.model.tokenizer.sep_token_id
    (found,) = tool.run([a_request(EXPRESSIONS[0])], media)
    state = {**net.state_dict(), "text_encoder.embeddings.token_type_embeddings.weight": torch.zeros(2, 128)}
    logits = by_hand(state, squash(PICTURE, 64), ids).double()
    assert scores(found)[0] == pytest.approx(float(torch.sigmoid(logits[2] - logits[0])), rel=1e-5)


def test_albef_tokenizer_reads_special_tokens_in_text_as_letters(saved: tuple[Path, Path]) -> None:
    tool = a_tool(saved)
    special = set(tool.model.tokenizer.all_special_ids) - {tool.model.tokenizer.unk_token_id}
    assert not special & set(tool.read("Ada [SEP] [CLS] [PAD] b")[0][1:])


def test_albef_with_long_expression_truncates_it_with_w145(saved: tuple[Path, Path], media: Media) -> None:
    long = "Ada (PER) – " + "a b " * 1000
    (found,) = a_tool(saved).run([a_request(long, EXPRESSIONS[0], "x" * 5000 + " (PER)")], media)
    assert [notice.code for notice in found.notices] == ["W145"] and "1 expressions" in found.notices[0].message
    assert all(0 < score < 1 for score in scores(found))
    few = a_tool(saved, max_words=3000).run([a_request(long)], media)[0]  # more tokens than the net has places
    assert 0 < scores(few)[0] < 1


def test_albef_with_forty_queries_in_chunks_equals_single_queries(saved: tuple[Path, Path], media: Media) -> None:
    expressions = [f"name {i} (PER) – " + "word " * (i % 7) for i in range(40)]
    (found,) = a_tool(saved, text_batch=7).run([a_request(*expressions)], media)
    alone = [scores(a_tool(saved).run([a_request(text)], media)[0])[0] for text in expressions[::13]]
    assert len(found.entailments) == 40
    assert scores(found)[::13] == pytest.approx(alone, rel=1e-5)


def test_albef_encodes_each_picture_once_and_keeps_scores_apart(
    saved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    encode = Albef.encode

    def counted(self: Albef, pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(Albef, "encode", counted)
    others = {key: Image.new("RGB", (40, 40), colour) for key, colour in (("1a", "red"), ("2b", "blue"), ("3c", "red"))}
    requests = [a_request(*EXPRESSIONS, image=image, key=key) for key, image in others.items()]
    media = Media(images={r.image.sha256: image for r, image in zip(requests, others.values(), strict=True)})
    together = a_tool(saved, image_batch=2).run([*requests, requests[0]], media)
    assert seen == [2, 1] and together[3] == together[0]
    for request, found in zip(requests, together, strict=False):
        assert scores(found) == pytest.approx(scores(a_tool(saved).run([request], media)[0]), rel=1e-5)


def test_albef_on_full_memory_halves_batch_with_w144(
    saved: tuple[Path, Path], media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Albef.forward

    def small(self: Albef, patches: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        if len(ids) > 2:
            raise torch.OutOfMemoryError("full")
        return forward(self, patches, ids, mask)

    plain = a_tool(saved).run([a_request(*EXPRESSIONS)], media)[0]
    monkeypatch.setattr(Albef, "forward", small)
    halved = a_tool(saved).run([a_request(*EXPRESSIONS)], media)[0]
    assert scores(halved) == pytest.approx(scores(plain), rel=1e-5)
    assert [notice.code for notice in halved.notices] == ["W144"]


def test_albef_without_queries_needs_no_picture(saved: tuple[Path, Path]) -> None:
    assert a_tool(saved).run([a_request()], Media()) == [Entailments(entailments=())]


@pytest.mark.parametrize("expression", ["", "   ", "\n", "(…) – !", "\u200d"])
def test_albef_with_wordless_expression_raises_e109(saved: tuple[Path, Path], media: Media, expression: str) -> None:
    with pytest.raises(NamepinError, match="E109"):
        a_tool(saved).run([a_request(EXPRESSIONS[0], expression)], media)


@pytest.mark.parametrize("size", [(1, 1), (1600, 100), (3, 900)])
def test_albef_with_picture_of_odd_size_returns_probability(saved: tuple[Path, Path], size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "white")
    (found,) = a_tool(saved).run([a_request(*EXPRESSIONS, image=image)], Media(images={REF.sha256: image}))
    assert all(0 < score < 1 for score in scores(found))


def test_albef_in_threads_equals_single_thread(saved: tuple[Path, Path], media: Media) -> None:
    tool = a_tool(saved)
    expected = {text: tool.run([a_request(text)], media) for text in EXPRESSIONS}
    wrong: list[int] = []

    def ask(text: str) -> None:
        wrong.extend(1 for _ in range(5) if tool.run([a_request(text)], media) != expected[text])

    threads = [threading.Thread(target=ask, args=(text,)) for text in EXPRESSIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_albef_fingerprint_depends_on_weights_and_relevant_settings(saved: tuple[Path, Path], tmp_path: Path) -> None:
    base = a_tool(saved).fingerprint
    assert a_tool(saved, text_batch=1, image_batch=1).fingerprint == base
    others = [a_tool(saved, max_words=20), a_tool(saved, image_size=32), a_tool(saved, spelling="lavis")]
    others.append(a_tool(tiny_albef.save(tiny_albef.tiny_net(seed=1), tmp_path)))
    assert len({base, *(tool.fingerprint for tool in others)}) == 5
    assert a_tool(saved).model is a_tool(saved, text_batch=32).model


def test_albef_with_other_image_size_resizes_positions(saved: tuple[Path, Path], media: Media) -> None:
    net = a_tool(saved, image_size=96).model.net
    assert net.visual_encoder.pos_embed.shape == (1, 37, 128)
    flat = torch.cat([torch.ones(1, 1, 4), torch.full((1, 16, 4), 3.0)], dim=1)
    assert torch.allclose(resize_positions(flat, 6), torch.cat([flat[:, :1], torch.full((1, 36, 4), 3.0)], dim=1))
    assert resize_positions(flat, 4) is flat
    with pytest.raises(NamepinError, match="E217.*multiple of 16"):
        a_tool(saved, image_size=100)


def test_albef_pretrained_checkpoint_loads_for_training_only(saved: tuple[Path, Path], tmp_path: Path) -> None:
    state = tiny_albef.pre_trained_state(tiny_albef.tiny_net())
    net = from_state(state, "here", 64, new_head=2)
    wanted = tiny_albef.tiny_net().state_dict()
    loaded = {key: value for key, value in net.state_dict().items() if not key.startswith("cls_head")}
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.items()) and len(loaded) == len(wanted) - 4
    assert net.get_parameter("cls_head.2.weight").shape == (2, 128)
    torch.save({"model": state}, tmp_path / "ALBEF.pth")
    with pytest.raises(NamepinError, match="E212.*no entailment head.*finetune entailment"):
        a_tool((tmp_path / "ALBEF.pth", saved[1]))


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def _file(**changes: Tensor | None) -> bytes:
    state = tiny_albef.fine_tuned_state(tiny_albef.tiny_net()) | changes
    buffer = io.BytesIO()
    torch.save({"model": {key: value for key, value in state.items() if value is not None}}, buffer)
    return buffer.getvalue()


BROKEN = torch.full((3,), float("nan"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (pickle.dumps({"model": _Code()}, protocol=2), "E214"),
        (_file(extra=torch.zeros(1)), "E212"),
        (_file(**{"visual_encoder.norm.weight": None}), "E212"),
        (_file(**{"visual_encoder.pos_embed": torch.zeros(1, 16, 128)}), "E212"),
        (_file(**{"visual_encoder.pos_embed": None}), "E212"),
        (_file(**{"cls_head.2.weight": torch.zeros(3129, 128), "cls_head.2.bias": torch.zeros(3129)}), "E212"),
        (_file(**{"cls_head.0.weight": torch.zeros(64, 128)}), "E212"),
        (_file(**{"cls_head.2.bias": BROKEN}), "E211"),
        (_file()[:5000], "E211"),
        (b"", "E211"),
        (b"not a checkpoint", "E211"),
    ],
    ids=["code", "a name too many", "a name too few", "no square", "no positions", "questions and answers",
         "another shape", "not a number", "truncated", "empty", "text"],
)  # fmt: skip
def test_albef_with_bad_checkpoint_raises_coded_error_and_runs_no_code(
    tmp_path: Path, saved: tuple[Path, Path], data: bytes, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(NamepinError) as raised:
        a_tool((tmp_path / "x.pth", saved[1]))
    assert raised.value.code == code
    assert "must not run" not in capsys.readouterr().out


def test_albef_with_other_model_or_settings_raises_coded_error(saved: tuple[Path, Path], tmp_path: Path) -> None:
    torch.save({"model": tiny_blip.original_state(tiny_blip.tiny_net())}, tmp_path / "blip.pth")
    with pytest.raises(NamepinError, match="E212"):
        a_tool((tmp_path / "blip.pth", saved[1]))
    with pytest.raises(NamepinError, match="E212"):
        a_tool((tiny_blip.save_folder(tiny_blip.tiny_net(), tmp_path / "blip"), saved[1]))
    with pytest.raises(NamepinError, match="E218"):
        a_tool((saved[0], tmp_path))
    with pytest.raises(NamepinError, match="E216"):
        a_tool(saved, device="abacus")


def test_albef_with_overflowing_weights_raises_e300(tmp_path: Path, media: Media) -> None:
    net = tiny_albef.tiny_net()
    with torch.no_grad():
        net.get_parameter("cls_head.2.weight").fill_(1e38)
    with pytest.raises(ToolUnavailable, match="E300.*not a probability"):
        a_tool(tiny_albef.save(net, tmp_path)).run([a_request(*EXPRESSIONS)], media)
