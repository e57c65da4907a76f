"""LLaVA as reranker: likelihoods against whole passes of transformers, both decoders, adapters, bad weights."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.interfaces import Reranked, RerankRequest
from namepin.tools.media import Media
from namepin.tools.reranker.config import LlavaRerankerConfig
from namepin.tools.reranker.llava import CONVERSATION, LlavaReranker
from namepin.tools.reranker.local import shares
from namepin.tools.reranker.prompt import table7
from support import tiny_rerankers as tiny

REQUESTS = [tiny.request(i) for i in range(3)]
LANGUAGE_MODEL = r".*language_model.*\.(q_proj|v_proj|up_proj)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture
def media() -> Media:
    return Media(images={tiny.REF.sha256: tiny.PICTURE})


def a_net(folder: Path) -> Any:
    return LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")


def a_reranker(folder: Path, **settings: Any) -> LlavaReranker:
    given = {"weights": str(folder), "dtype": "float32"} | settings
    return LlavaReranker(LlavaRerankerConfig.model_validate(given))


def prompt(request: RerankRequest, **changes: Any) -> str:
    return CONVERSATION.format(picture="<image>\n", query=table7(request, "image", **changes))


def by_whole_passes(net: Any, words: Any, request: RerankRequest, **changes: Any) -> list[float]:
    return tiny.naive_llava(net, words, prompt(request, **changes), request.candidates)


def log_likelihoods(tool: LlavaReranker, request: RerankRequest, media: Media) -> list[float]:
    with torch.inference_mode():
        question = tool.model.question(table7(request), request, media)
        return tool.model.read(question).log_likelihoods(question.answers)


def test_llava_reranker_likelihoods_equal_whole_passes(folder: Path, media: Media) -> None:
    tool, net = a_reranker(folder), a_net(folder)
    for request in REQUESTS:
        expected = by_whole_passes(net, tool.model.tokenizer, request)
        assert log_likelihoods(tool, request, media) == pytest.approx(expected, rel=1e-5)
        found = tool.run([request], media)[0]
        assert list(found.scores.values()) == pytest.approx(shares(expected), rel=1e-4, abs=1e-9)
        assert found.label == request.candidates[expected.index(max(expected))]
        assert sum(found.scores.values()) == pytest.approx(1)


def test_llava_reranker_with_prefix_candidates_scores_end_token(folder: Path, media: Media) -> None:
    tool = a_reranker(folder)
    request = tiny.request(0, candidates=("event", "event_other", "event_other_other"))
    expected = by_whole_passes(a_net(folder), tool.model.tokenizer, request)
    assert log_likelihoods(tool, request, media) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("settings", [{"length_normalised": True}, {"batch": 2}, {"batch": 1}, {"hint": True}])
def test_llava_reranker_settings_equal_whole_passes(folder: Path, media: Media, settings: dict[str, Any]) -> None:
    tool = a_reranker(folder, **settings)
    request = tiny.request(1, hint={"company": 0.4, "magazine": 0.31, "sports_team": 0.1})
    expected = by_whole_passes(a_net(folder), tool.model.tokenizer, request, hint="hint" in settings)
    if "length_normalised" in settings:
        lengths = [len(row) for row in tool.model.question(table7(request), request, media).answers]
        expected = [total / length for total, length in zip(expected, lengths, strict=True)]
    assert list(tool.run([request], media)[0].scores.values()) == pytest.approx(shares(expected), rel=1e-4, abs=1e-9)


def greedy(net: Any, words: Any, request: RerankRequest) -> str:
    """Among the candidates that are left, the likeliest next token, a whole pass each."""
    text = prompt(request).replace("<image>", "<image>" * (tiny.SIDE // tiny.PATCH) ** 2)
    rows = {c: [*words(text + " " + c)["input_ids"], words.eos_token_id] for c in request.candidates}
    left, at = list(rows), 0
    while len(left) > 1:
        following = {rows[c][at] for c in left}
        if len(following) > 1:
            with torch.no_grad():
                ids = torch.tensor([rows[left[0]][:at]])
                logits = net(input_ids=ids, pixel_values=tiny.llava_pixels()).logits[0, -1]
            token = max(following, key=lambda t: float(logits[t]))
            left = [c for c in left if rows[c][at] == token]
        at += 1
    return left[0]


def test_llava_reranker_generate_decoder_is_greedy_among_candidates(folder: Path, media: Media) -> None:
    tool, net = a_reranker(folder, decoder="generate"), a_net(folder)
    requests = [*REQUESTS, tiny.request(0, candidates=("event_other", "event", "city"))]
    found = tool.run(requests, media)
    assert [answer.label for answer in found] == [greedy(net, tool.model.tokenizer, r) for r in requests]
    assert [answer.scores for answer in found] == [{}] * 4


def test_llava_reranker_encodes_picture_once(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = a_reranker(folder)
    passes = []
    tower = tool.model.generator.model.vision_tower
    tower.register_forward_hook(lambda *_: passes.append(1))
    seen = tool.run(REQUESTS, media)
    assert tool.run(REQUESTS[:1], media) == seen[:1] and len(passes) == 1
    black = Media(images={tiny.REF.sha256: Image.new("RGB", (50, 30))})
    assert a_reranker(folder).run(REQUESTS, black)[0].scores != seen[0].scores
    panorama = Media(images={tiny.REF.sha256: tiny.PICTURE.resize((160, 90))})
    assert sum(a_reranker(folder).run(REQUESTS, panorama)[0].scores.values()) == pytest.approx(1)


def test_llava_reranker_in_threads_equals_single_thread(folder: Path, media: Media) -> None:
    tool = a_reranker(folder, cached_pictures=0)
    expected = [tool.run([request], media)[0] for request in REQUESTS]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda i: tool.run([REQUESTS[i % 3]], media)[0], range(12)))
    assert found == expected * 4


def test_llava_reranker_without_picture_scores_text_alone(folder: Path) -> None:
    tool = a_reranker(folder)
    request = tiny.request(0, image=None, caption="never asked for")
    text = CONVERSATION.format(picture="", query=table7(request, "text"))
    net = a_net(folder)
    words = tool.model.tokenizer
    expected = tiny.naive(lambda ids: net(input_ids=ids).logits, words, text, request.candidates)
    assert list(tool.run([request], Media())[0].scores.values()) == pytest.approx(shares(expected), rel=1e-4, abs=1e-9)


def test_llava_reranker_with_one_candidate_needs_no_picture(folder: Path) -> None:
    request = tiny.request(0, candidates=("city",))
    assert a_reranker(folder).run([request], Media()) == [Reranked(label="city", scores={"city": 1.0})]


def test_llava_reranker_with_51_candidates_is_independent_of_batch(folder: Path, media: Media) -> None:
    names = tuple(f"type_{i}" for i in range(51))
    request = tiny.request(0, candidates=names)
    many, few = (a_reranker(folder, batch=size).run([request], media)[0] for size in (51, 4))
    assert few.label == many.label
    assert list(few.scores.values()) == pytest.approx(list(many.scores.values()), rel=1e-4)


def test_llava_reranker_full_memory_halves_batch(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = a_reranker(folder, batch=4)
    expected = tool.run(REQUESTS[:1], media)[0]
    language_model = tool.model.generator.model.language_model

    def full(module: Any, inputs: Any, given: dict[str, Any]) -> None:
        if len(given["inputs_embeds"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    language_model.register_forward_pre_hook(full, with_kwargs=True)
    found = tool.run(REQUESTS[:1], media)[0]
    assert [notice.code for notice in found.notices] == ["W144"]
    assert found.scores == pytest.approx(expected.scores, rel=1e-4)


def test_llava_reranker_with_long_post_truncates_around_mention_with_w143(folder: Path, media: Media) -> None:
    tool = a_reranker(folder, max_query_tokens=300)
    tokens = (*["word"] * 400, "Garfield", "Park", *["more"] * 400)
    found = tool.run([tiny.request(0, text=" ".join(tokens), tokens=tokens, token_span=(400, 402))], media)[0]
    assert [notice.code for notice in found.notices] == ["W143"]
    assert sum(found.scores.values()) == pytest.approx(1)


def test_llava_reranker_with_mention_truncated_away_raises_e300(folder: Path, media: Media) -> None:
    tool = a_reranker(folder, max_query_tokens=300)
    with pytest.raises(ToolUnavailable, match="E300.*no token of the mention"):
        tool.run([tiny.request(0, tokens=("ab" * 5000,), token_span=(0, 1))], media)
    with pytest.raises(ToolUnavailable, match="control tokens"):
        tool.run([tiny.request(0, tokens=("a", "<image><|end|>"), token_span=(1, 2))], media)


def test_llava_reranker_reads_image_tokens_in_post_as_text(folder: Path, media: Media) -> None:
    tokens = ("<image>", "Garfield", "Park", "<|assistant|>", "park")
    found = a_reranker(folder).run([tiny.request(0, tokens=tokens, token_span=(1, 3))], media)[0]
    assert sum(found.scores.values()) == pytest.approx(1)


def test_llava_reranker_with_missing_picture_raises_e120(folder: Path) -> None:
    with pytest.raises(NamepinError, match="E120"):
        a_reranker(folder).run(REQUESTS[:1], Media())


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_adapter(tmp_path_factory.mktemp("adapter"), folder, a_net(folder), LANGUAGE_MODEL)


def copy_of(adapter: Path, folder: Path) -> Path:
    import shutil

    return Path(shutil.copytree(adapter, folder / "adapter"))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PeftModel's own
def test_llava_reranker_adapter_equals_peft(folder: Path, adapter: Path, media: Media) -> None:
    from peft import PeftModel

    tool = a_reranker(folder, adapter=str(adapter))
    net = PeftModel.from_pretrained(a_net(folder), adapter).eval()
    expected = by_whole_passes(net, tool.model.tokenizer, REQUESTS[0])
    assert log_likelihoods(tool, REQUESTS[0], media) == pytest.approx(expected, rel=1e-5)
    plain = a_reranker(folder)
    assert log_likelihoods(plain, REQUESTS[0], media) != pytest.approx(expected, rel=1e-2)
    assert plain.fingerprint != tool.fingerprint == a_reranker(folder, adapter=str(adapter)).fingerprint


def test_llava_reranker_adapter_in_bfloat16_stays_close(folder: Path, adapter: Path, media: Media) -> None:
    exact = a_reranker(folder, adapter=str(adapter)).run(REQUESTS[:1], media)[0]
    rough = a_reranker(folder, adapter=str(adapter), dtype="bfloat16").run(REQUESTS[:1], media)[0]
    assert list(rough.scores.values()) == pytest.approx(list(exact.scores.values()), abs=0.2)


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("adapter.json", {"base_sha256": "0" * 64}, "E219.*other weights"),
        ("adapter.json", {"base_sha256": None, "base_model": "llava-hf/llava-1.5-13b-hf"}, "E219.*13b"),
        ("adapter.json", {"base_sha256": None, "base_model": "SELF", "revision": "abc"}, "E219.*revision"),
        ("adapter.json", {"task": "match"}, "E219.*task 'match'"),
        ("adapter.json", {"rank": 64}, "E219.*rank 4"),
        ("adapter.json", {"rank": "many"}, "E219.*manifest"),
        ("adapter_config.json", {"target_modules": ["no_such_layer"]}, "E219.*no layer"),
        ("adapter_config.json", {"target_modules": ["q_proj"]}, "E212.*missing"),
    ],
)
def test_llava_reranker_with_adapter_of_other_base_or_task_raises_coded_error(
    folder: Path, adapter: Path, tmp_path: Path, file: str, changes: dict[str, Any], said: str
) -> None:
    wrong = copy_of(adapter, tmp_path)
    tiny.edit_json(wrong / file, **{k: str(folder) if v == "SELF" else v for k, v in changes.items()})
    with pytest.raises(NamepinError, match=said):
        a_reranker(folder, adapter=str(wrong))


def test_llava_reranker_with_damaged_adapter_raises_e211_or_e210(folder: Path, adapter: Path, tmp_path: Path) -> None:
    cut = copy_of(adapter, tmp_path)
    weights = cut / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(NamepinError, match="E211.*truncated"):
        a_reranker(folder, adapter=str(cut))
    (cut / "adapter.json").write_text("{")
    with pytest.raises(NamepinError, match="E211"):
        a_reranker(folder, adapter=str(cut))
    (cut / "adapter.json").unlink()
    with pytest.raises(NamepinError, match="E210.*convert_llava"):
        a_reranker(folder, adapter=str(cut))
    with pytest.raises(NamepinError, match="E210"):
        a_reranker(folder, adapter=str(tmp_path / "nothing"))


def test_llava_reranker_with_llama_weights_raises_e212(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E212.*'llama'"):
        a_reranker(tiny.save_llama(tmp_path))


def test_llava_reranker_with_truncated_weights_raises_e211(tmp_path: Path) -> None:
    folder = tiny.save_llava(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(NamepinError, match="E211"):
        a_reranker(folder)


def test_llava_reranker_quantization_without_cuda_raises_e301_or_e216(folder: Path) -> None:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") and torch.cuda.is_available():
        pytest.skip("this machine has both")
    with pytest.raises(NamepinError, match="E301.*bitsandbytes|E216.*CUDA"):
        a_reranker(folder, quantization="4bit")


def test_llava_reranker_on_unknown_device_raises_e216(folder: Path) -> None:
    with pytest.raises(NamepinError, match="E216"):
        a_reranker(folder, device="cuda:99")


@pytest.mark.gpu
@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_llava_reranker_quantized_returns_distribution(folder: Path, media: Media, quantization: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    tool = a_reranker(folder, quantization=quantization, device="cuda", dtype="bfloat16")
    assert sum(tool.run(REQUESTS[:1], media)[0].scores.values()) == pytest.approx(1)
