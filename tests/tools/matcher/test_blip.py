"""The matcher: scores against transformers one text at a time, both checkpoint forms, texts, bad weights."""

import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.images.tensors import squash
from namepin.tools.interfaces import Matches, MatchRequest, Query
from namepin.tools.matcher.blip import BlipMatcher
from namepin.tools.matcher.config import BlipMatcherConfig
from namepin.tools.media import Media
from namepin.tools.models.blip import Blip
from namepin.tools.models.config import BlipConfig
from support import tiny_blip
from support.tiny_blip import PICTURE, QUERIES, VOCABULARY, image_ref

REF = image_ref(PICTURE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip.save_folder(tiny_blip.tiny_net(), tmp_path_factory.mktemp("blip"))


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_matcher(folder: Path, **settings: object) -> BlipMatcher:
    return BlipMatcher(BlipMatcherConfig(blip=BlipConfig(weights=str(folder), **settings)))  # type: ignore[arg-type]


def a_request(*queries: Query, image: Image.Image = PICTURE) -> MatchRequest:
    return MatchRequest(image=image_ref(image), text="a post", queries=queries)


def scores(matches: Matches) -> list[float]:
    return [match.score for match in matches.matches]


@pytest.mark.parametrize(("first_token", "first_id"), [("enc", VOCABULARY - 1), ("cls", 2)])
def test_blip_matcher_scores_equal_single_texts(folder: Path, media: Media, first_token: str, first_id: int) -> None:
    found = a_matcher(folder, first_token=first_token).run([a_request(*QUERIES)], media)[0]
    net, pixels = tiny_blip.tiny_net(), squash(PICTURE, 64)
    for query, score in zip(QUERIES, scores(found), strict=True):
        logits, *_ = tiny_blip.naive_trace(net, pixels, query, block=1, first=first_id)
        assert score == pytest.approx(float(logits.softmax(0)[1]), rel=1e-5)


def test_blip_matcher_from_original_checkpoint_equals_folder(folder: Path, media: Media, tmp_path: Path) -> None:
    torch.save({"model": tiny_blip.original_state(tiny_blip.tiny_net()), "epoch": 5}, tmp_path / "blip.pth")
    original = a_matcher(tmp_path / "blip.pth", tokenizer=str(folder))
    assert original.run([a_request(*QUERIES)], media) == a_matcher(folder).run([a_request(*QUERIES)], media)


def test_blip_matcher_encodes_picture_once_while_cached(folder: Path, media: Media, encodings: list[int]) -> None:
    matcher = a_matcher(folder, cached_pictures=1)
    matcher.run([a_request(*QUERIES), a_request(QUERIES[0])], media)
    matcher.run([a_request(*QUERIES)], media)
    assert encodings == [1]
    a_matcher(folder, cached_pictures=0).run([a_request(*QUERIES)], media)
    assert encodings == [1, 1]


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes that went through the image encoder."""
    seen: list[int] = []
    encode = Blip._encode

    def counted(self: Blip, images: list[object], media: Media) -> torch.Tensor:
        seen.append(len(images))
        return encode(self, images, media)  # type: ignore[arg-type]

    monkeypatch.setattr(Blip, "_encode", counted)
    return seen


def test_blip_matcher_keeps_scores_of_pictures_apart(folder: Path) -> None:
    others = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "black")]
    refs = [image_ref(image, key) for image, key in zip(others, ("1a", "2b", "3c"), strict=True)]
    media = Media(images={ref.sha256: image for ref, image in zip(refs, others, strict=True)})
    requests = [MatchRequest(image=ref, text="x", queries=QUERIES) for ref in refs]
    together = a_matcher(folder, image_batch=2, cached_pictures=1).run(requests, media)
    for request, found in zip(requests, together, strict=True):
        alone = a_matcher(folder, cached_pictures=0).run([request], media)[0]
        assert scores(found) == pytest.approx(scores(alone), rel=1e-5)


def test_blip_matcher_with_forty_queries_in_chunks_equals_single_queries(folder: Path, media: Media) -> None:
    queries = [Query(text=f"name {i}", label="PER", category="actor") for i in range(40)]
    found = a_matcher(folder, text_batch=7).run([a_request(*queries)], media)[0]
    alone = [scores(a_matcher(folder).run([a_request(query)], media)[0])[0] for query in queries[::13]]
    assert len(found.matches) == 40
    assert scores(found)[::13] == pytest.approx(alone, rel=1e-5)


def test_blip_matcher_without_queries_needs_no_picture(folder: Path) -> None:
    assert a_matcher(folder).run([a_request()], Media()) == [Matches(matches=())]


def test_blip_matcher_in_threads_equals_single_thread(folder: Path, media: Media) -> None:
    matcher = a_matcher(folder)
    expected = {query: matcher.run([a_request(query)], media)[0] for query in QUERIES}
    wrong = []

    def ask(query: Query) -> None:
        wrong.extend(1 for _ in range(5) if matcher.run([a_request(query)], media)[0] != expected[query])

    threads = [threading.Thread(target=ask, args=(query,)) for query in QUERIES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (64, 64)),
        Image.new("RGB", (1600, 100), "white"),
        Image.new("RGB", (1, 1), "red"),
        Image.new("RGB", (3, 900), "green"),
    ],
    ids=["all black", "16:1 panorama", "one pixel", "a thread"],
)
def test_blip_matcher_with_picture_of_odd_size_returns_probability(folder: Path, image: Image.Image) -> None:
    found = a_matcher(folder, cached_pictures=0).run(
        [a_request(*QUERIES, image=image)], Media(images={REF.sha256: image})
    )[0]
    assert all(0 < score < 1 for score in scores(found))


def test_blip_matcher_with_long_mention_keeps_category_with_w140(folder: Path, media: Media) -> None:
    queries = [Query(text="x y " * 50, label="PER", category="actor"), QUERIES[2]]
    matcher = a_matcher(folder)
    texts, notices = matcher.blip.texts(queries), matcher.run([a_request(*queries)], media)[0].notices
    words = tiny_blip.WORDS
    assert texts.ids.shape[1] == 35
    assert [words[i] for i in texts.ids[0][-9:]] == ["is", "belong", "a", "##c", "##t", "##o", "##r", ".", "[SEP]"]
    assert [notice.code for notice in notices] == ["W140"]
    assert texts.mask.sum(dim=1).tolist() == [35, 9]


@pytest.mark.parametrize("text", ["\u200d\ufe0f", "🚀"])
def test_blip_matcher_with_unknown_words_warns_w141(folder: Path, media: Media, text: str) -> None:
    found = a_matcher(folder).run([a_request(Query(text=text, label="OTHER", category="OTHER"))], media)[0]
    assert [notice.code for notice in found.notices] == ["W141"]
    assert 0 < found.matches[0].score < 1


def test_blip_matcher_fingerprint_depends_on_weights_and_relevant_settings(folder: Path, tmp_path: Path) -> None:
    base = a_matcher(folder).fingerprint
    assert a_matcher(folder, text_batch=1, cached_pictures=2).fingerprint == base
    other = tiny_blip.save_folder(tiny_blip.tiny_net(seed=1), tmp_path)
    different = [a_matcher(folder, first_token="cls"), a_matcher(folder, max_text_tokens=20), a_matcher(other)]
    different.append(a_matcher(folder, vision_norm_eps=1e-5))
    assert len({base, *(matcher.fingerprint for matcher in different)}) == 5


def test_blip_matchers_with_equal_weights_share_model(folder: Path, tmp_path: Path) -> None:
    first = a_matcher(folder)
    assert a_matcher(folder).blip is first.blip
    copy = tiny_blip.save_folder(tiny_blip.tiny_net(), tmp_path)
    before = a_matcher(copy)
    tiny_blip.save_folder(tiny_blip.tiny_net(seed=1), copy)
    assert a_matcher(copy).blip is not before.blip


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _header_only(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")


def _other_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "clip"}')


def _other_shape(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 96', '"intermediate_size": 80'))


def _captioning(folder: Path) -> None:
    from transformers import BlipForConditionalGeneration

    BlipForConditionalGeneration(tiny_blip.tiny_net().config).save_pretrained(folder)


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_truncate, "E211"),
        (_header_only, "E211"),
        (_other_kind, "E212"),
        (_other_shape, "E212"),
        (_captioning, "E212"),
        (_no_weights, "E210"),
        (_broken_config, "E211"),
        (_no_tokenizer, "E218"),
    ],
)
def test_blip_matcher_of_bad_folder_raises_error(tmp_path: Path, spoil: Callable[[Path], None], code: str) -> None:
    spoil(tiny_blip.save_folder(tiny_blip.tiny_net(), tmp_path))
    with pytest.raises(NamepinError) as raised:
        a_matcher(tmp_path)
    assert raised.value.code == code


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def _saved(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _original(**changes: object) -> bytes:
    state = tiny_blip.original_state(tiny_blip.tiny_net()) | changes
    return _saved({"model": {key: value for key, value in state.items() if value is not None}})


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (pickle.dumps({"model": _Code()}, protocol=2), "E214"),
        (_saved({"model": {"itm_head.weight": _Code()}}), "E214"),
        (_original(extra=torch.zeros(1)), "E212"),
        (_original(**{"itm_head.weight": None}), "E212"),
        (_original(**{"itm_head.weight": torch.zeros(3, 128)}), "E212"),
        (_original(**{"visual_encoder.pos_embed": None}), "E212"),
        (_original()[:5000], "E211"),
        (b"", "E211"),
        (b"not a checkpoint", "E211"),
        (_saved({"model": {}}), "E212"),
    ],
    ids=[
        "code",
        "code again",
        "a name too many",
        "no head",
        "another head",
        "no positions",
        "truncated",
        "empty",
        "text",
        "nothing",
    ],
)
def test_blip_matcher_with_bad_checkpoint_raises_coded_error_and_runs_no_code(
    tmp_path: Path, folder: Path, data: bytes, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(NamepinError) as raised:
        a_matcher(tmp_path / "x.pth", tokenizer=str(folder))
    assert raised.value.code == code
    assert "must not run" not in capsys.readouterr().out


def test_blip_matcher_with_bad_settings_raises_e210_or_e216(folder: Path) -> None:
    with pytest.raises(NamepinError, match="E210"):
        a_matcher(folder / "nowhere.pth")
    with pytest.raises(NamepinError, match="E216"):
        a_matcher(folder, device="abacus")
