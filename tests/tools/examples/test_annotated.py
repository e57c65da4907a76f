"""MSEA: reading annotated samples, choosing similar ones with real (tiny) encoders, and the features kept on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from namepin.tools.examples.annotated import FEATURES_FILE, INDEX_FILE, AnnotatedExamples
from namepin.tools.examples.config import ExamplesConfig
from namepin.tools.interfaces import ExamplesRequest, KnowledgeRequest
from namepin.tools.knowledge.plim import prompt
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from support.tiny_encoders import save_tiny_bert
from support.tiny_umt import save_tiny_clip, save_tiny_umt

ROWS: list[dict[str, Any]] = [
    {"id": "1", "text": "rain in the old town", "caption": "a wet street", "annotation": "Named entities: none"},
    {"id": "2", "text": "marlo quint scores 31", "annotation": "Named entities: 1. marlo quint (athlete)"},
    {"id": "3", "text": "rain in the new town", "annotation": "Named entities: none"},
    {"id": "4", "annotation": "Named entities: 1. Velden (town)"},
]
REF = ImageRef(sha256="ab" * 32, width=64, height=64)
PICTURE = Image.linear_gradient("L").convert("RGB").resize((64, 64))


def written(folder: Path, rows: list[dict[str, Any]] = ROWS, name: str = "annotations.jsonl") -> str:
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", "utf-8")
    return str(folder / name)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("encoders")
    umt, clip = save_tiny_umt(folder), save_tiny_clip(folder)
    return {"sentence": save_tiny_bert(folder / "sentence"), "umt": str(umt), "clip": str(clip)}


def tool(folder: Path, weights: dict[str, str], features: str = "sentence", **changes: Any) -> AnnotatedExamples:
    given = {"samples": str(folder / "annotations.jsonl"), "features": features, "store": folder / "kept", "n": 2}
    return AnnotatedExamples(ExamplesConfig.model_validate(given | {"weights": weights[features]} | changes))


def post(text: str, id: str = "p", image: ImageRef | None = None) -> ExamplesRequest:
    return ExamplesRequest(id=id, text=text, image=image)


def test_annotated_examples_order_samples_by_similarity(tmp_path: Path, weights: dict[str, str]) -> None:
    written(tmp_path)
    msea = tool(tmp_path, weights, n=3)
    (found,) = msea.run([post("rain in the old town !")], Media())
    assert msea.dropped == ["4"] and len(msea.samples) == 3
    assert [e.id for e in found.examples][-1] == "1"
    similarities = [e.similarity or 0 for e in found.examples]
    assert similarities == sorted(similarities) and similarities[-1] <= 1
    last = found.examples[-1]
    assert (last.text, last.caption, last.annotation) == tuple(ROWS[0][k] for k in ("text", "caption", "annotation"))


def test_annotated_examples_similarity_equals_encoder_cosine(tmp_path: Path, weights: dict[str, str]) -> None:
    written(tmp_path)
    msea = tool(tmp_path, weights, n=3)
    assert msea._encoder is not None
    texts = ["the new rain", *(row["text"] for row in ROWS[:3])]
    vectors = torch.cat([msea._encoder.encode([text], [None]) for text in texts])
    expected = {str(i): round(float(torch.cosine_similarity(vectors[0], vectors[i], 0)), 3) for i in (1, 2, 3)}
    (found,) = msea.run([post("the new rain")], Media())
    assert {e.id: round(e.similarity or 0, 3) for e in found.examples} == pytest.approx(expected, abs=2e-3)
    assert [e.id for e in found.examples] == sorted(expected, key=lambda i: expected[i])


def test_annotated_examples_exclude_asked_post(tmp_path: Path, weights: dict[str, str]) -> None:
    written(tmp_path)
    for selection in ("similar", "fixed", "random"):
        msea = tool(tmp_path, weights, n=10, selection=selection)
        by_id, by_text = msea.run([post("anything", id="3"), post("Rain in  the OLD town")], Media())
        assert {e.id for e in by_id.examples} == {"1", "2"}
        assert {e.id for e in by_text.examples} == {"2", "3"}


def test_annotated_examples_fixed_and_random_selection_follow_seed(tmp_path: Path, weights: dict[str, str]) -> None:
    rows = [{"id": f"s{i}", "text": f"text {i}", "annotation": "none"} for i in range(30)]
    written(tmp_path, rows)
    posts = [post("a", id=f"p{i}") for i in range(3)]

    def drawn(**changes: Any) -> list[tuple[str, ...]]:
        answers = tool(tmp_path, weights, n=5, **changes).run(posts, Media())
        assert all(e.similarity is None for answer in answers for e in answer.examples)
        return [tuple(e.id for e in answer.examples) for answer in answers]

    fixed = drawn(selection="fixed")
    assert len(set(fixed)) == 1 and len(set(fixed[0])) == 5 and drawn(selection="fixed") == fixed
    assert drawn(selection="fixed", seed=2) != fixed
    anew = drawn(selection="random")
    assert len(set(anew)) == 3 and drawn(selection="random") == anew
    # No encoder is loaded for either.
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("features", ["sentence", "umt", "clip"])
def test_annotated_examples_of_each_encoder_accept_posts_without_picture(
    features: str, tmp_path: Path, weights: dict[str, str]
) -> None:
    written(tmp_path)
    (tmp_path / "images").mkdir()
    PICTURE.save(tmp_path / "images" / "2.jpg")
    msea = tool(tmp_path, weights, features, images=str(tmp_path / "images"), n=3)
    media = Media(images={REF.sha256: PICTURE})
    posts = [post("a town"), post("a town", image=REF), post("a town", image=REF)]
    bare, shown, again = msea.run(posts, media)
    assert shown == again and len(bare.examples) == 3
    told = [{e.id: e.similarity for e in answer.examples} for answer in (bare, shown)]
    sees = features != "sentence"
    assert (told[0] != told[1]) == sees
    # The samples' pictures are part of what is remembered, where they are looked at.
    blind = tool(tmp_path, weights, features, n=3)
    assert (blind.fingerprint != msea.fingerprint) == sees


def test_annotated_examples_features_are_cached_until_input_changes(
    tmp_path: Path, weights: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    kept = tmp_path / "kept"
    first = tool(tmp_path, weights)
    index = json.loads((kept / INDEX_FILE).read_text())
    assert index["ids"] == ["1", "2", "3"] and load_file(kept / FEATURES_FILE)["features"].shape == (3, 32)
    computed: list[int] = []

    def compute(samples: Sequence[Any], *rest: Any) -> torch.Tensor:
        computed.append(len(samples))
        return torch.eye(len(samples), 32)

    monkeypatch.setattr("namepin.tools.examples.annotated._compute", compute)
    assert tool(tmp_path, weights).fingerprint == first.fingerprint and not computed
    assert tool(tmp_path, weights, n=1, device="cpu").fingerprint != first.fingerprint and not computed
    written(tmp_path, [*ROWS[:2], ROWS[2] | {"text": "another text"}])
    assert tool(tmp_path, weights).fingerprint != first.fingerprint and computed == [3]
    # Damaged and truncated files, and an index that names other rows, are no features.
    whole = (kept / FEATURES_FILE).read_bytes()
    for damage in (b"", whole[:40], b"x" * 100):
        (kept / FEATURES_FILE).write_bytes(damage)
        tool(tmp_path, weights)
    save_file({"features": torch.full((3, 32), torch.nan)}, kept / FEATURES_FILE)
    tool(tmp_path, weights)
    (kept / INDEX_FILE).write_text("[]")
    tool(tmp_path, weights)
    assert computed == [3] * 6


def test_annotated_examples_with_unwritable_store_warn_and_answer(
    tmp_path: Path, weights: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path)
    (tmp_path / "file").write_text("")
    found = tool(tmp_path, weights, store=tmp_path / "file").run([post("rain")], Media())
    assert len(found[0].examples) == 2 and "cannot be kept" in caplog.text


def test_annotated_examples_read_texts_and_captions_of_train_and_dev(tmp_path: Path, weights: dict[str, str]) -> None:
    written(tmp_path, [{"id": i, "annotation": "none"} for i in "abcd"])
    for name in ("txt", "captions"):
        (tmp_path / name).mkdir()
    (tmp_path / "txt" / "train.txt").write_text("IMGID:a\nold\tO\ntown\tO\n\nIMGID:b\nrain\tO\n")
    (tmp_path / "txt" / "dev.txt").write_text("IMGID:c\nquint\tB-PER\n")
    (tmp_path / "txt" / "test.txt").write_text("IMGID:d\nsecret\tO\n")
    (tmp_path / "captions" / "owl-train.jsonl").write_text('{"id": "a", "caption": "a street"}\n')
    msea = tool(tmp_path, weights, data=str(tmp_path), captions="owl")
    assert [(s.id, s.text, s.caption) for s in msea.samples] == [
        ("a", "old town", "a street"), ("b", "rain", None), ("c", "quint", None),
    ]  # fmt: skip
    assert msea.dropped == ["d"]


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ([ROWS[0], ROWS[1], ROWS[0]], "E131", "'1' is annotated twice"),
        ([{"id": "1", "text": "a"}], "E134", "annotation: Field required"),
        ([{"id": "1", "text": "a", "annotation": " "}], "E134", "is blank"),
        ([{"id": "", "text": "a", "annotation": "b"}], "E134", "id"),
        ([{"id": "1", "text": "a", "annotation": "b" * 4001}], "E134", "at most 4000"),
        (["no object"], "E134", "not an annotated sample"),
        ([ROWS[3]], "E130", "none of the 1 annotated samples has a text"),
        ([], "E130", "none of the 0"),
    ],
)
def test_annotated_examples_with_bad_samples_raise_coded_error(
    rows: list[dict[str, Any]], code: str, said: str, tmp_path: Path, weights: dict[str, str]
) -> None:
    written(tmp_path, rows)
    with pytest.raises(NamepinError, match=said) as caught:
        tool(tmp_path, weights)
    assert caught.value.code == code


def test_annotated_examples_with_missing_files_or_bad_settings_raise(tmp_path: Path, weights: dict[str, str]) -> None:
    with pytest.raises(NamepinError, match="E130"):
        tool(tmp_path, weights)
    first = written(tmp_path)
    for setting in ("data", "images"):
        with pytest.raises(NamepinError, match=f"E130.*examples.{setting}"):
            tool(tmp_path, weights, **{setting: str(tmp_path / "nowhere")})
    second = written(tmp_path, ROWS[2:], "more.jsonl")
    with pytest.raises(NamepinError, match="E131.*annotations.jsonl:3 and .*more.jsonl:1"):
        tool(tmp_path, weights, samples=(first, second))
    (tmp_path / "annotations.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(NamepinError, match="E134.*not UTF-8.*annotations.jsonl:1"):
        tool(tmp_path, weights)
    bad: list[dict[str, Any]] = [{"n": 0}, {"n": 51}, {"selection": "best"}, {"samples": []}, {"features": "bert"}]
    for wrong in bad:
        with pytest.raises(ValidationError):
            ExamplesConfig.model_validate(wrong)


def test_annotated_examples_with_nan_encoder_raise_e211(tmp_path: Path, weights: dict[str, str]) -> None:
    written(tmp_path)
    folder = tmp_path / "sentence"
    save_tiny_bert(folder)
    state = load_file(folder / "model.safetensors")
    state["encoder.layer.1.output.dense.weight"].fill_(torch.nan)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(NamepinError, match="E211.*not finite"):
        tool(tmp_path, {"sentence": str(folder)})


# Digests of the samples' ids and of the prompt, for the dev post 1953977's text: the data stays outside the project.
REAL = {
    1: "5223c287844510e899cd30f0cb58e7b04a23292fe928ae0eb62c7b241622d14a",
    5: "8a47ed5bae7f5e7f03999e7e615f922636f8223077267743efef87e6bb23913f",
    10: "c29c248b702356a57688f60b28b57374fd84f9a15f66770b5423c09520dbbbdd",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize("n", REAL)
def test_annotated_examples_of_release_give_golden_prompt(n: int, data_root: Path, store: Path) -> None:
    files = [str(data_root / "plim" / f"annotations-{year}.jsonl") for year in (2015, 2017)]
    if not Path(files[0]).is_file():
        pytest.skip(f"no annotated samples at {files[0]}")
    config = ExamplesConfig(samples=tuple(files), data=str(data_root / "gmner"), n=n, store=store)
    msea = AnnotatedExamples(config)
    assert (len(msea.samples), len(msea.dropped)) == (240, 85)
    text = "RT @ HistoryPixs : Angelina Jolie when she was only 16 years old ."
    (found,) = msea.run([post(text, id="1953977")], Media())
    assert len(found.examples) == n and "1953977" not in {e.id for e in found.examples}
    request = KnowledgeRequest(text=text, caption="a woman", examples=found.examples)
    assert digest([str(message.content) for message in prompt(request)]) == REAL[n]
