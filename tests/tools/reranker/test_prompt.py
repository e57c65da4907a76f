"""Table 7's prompt, word for word, and how it is cut; the other local rerankers against whole passes."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import Blip2ForConditionalGeneration, LlamaForCausalLM

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.images.tensors import CLIP_MEAN, CLIP_STD
from namepin.tools.interfaces import RerankRequest
from namepin.tools.media import Media
from namepin.tools.models.blip2_lm import picture_tokens
from namepin.tools.reranker.blip2 import Blip2Reranker
from namepin.tools.reranker.config import Blip2RerankerConfig, TextRerankerConfig
from namepin.tools.reranker.likelihood import CausalScorer, Question, cache_name, continuations, split_answers
from namepin.tools.reranker.local import shares
from namepin.tools.reranker.prompt import (
    EXAMPLES,
    Query,
    best,
    clean_request,
    fit_prompt,
    seen_by,
    table7,
    without_asking,
)
from namepin.tools.reranker.text import TextReranker
from support import tiny_rerankers as tiny

MEDIA = Media(images={tiny.REF.sha256: tiny.PICTURE})
TABLE_7 = (
    "Here's a tweet along with its image, where the entities of the text have been labeled using &&, and you need to "
    "determine his category from the candidate set.\n"
    "Text: The geometry of plants . Garfield(&&) Park(&&) Conservatory.\n"
    'Candidate: ["park", "continent", "city", "country", "software"].\n'
    "Answer:",
    "Here's a tweet along with its image, where the entities of the text have been labeled using &&, and you need to "
    "determine his category from the candidate set.\n"
    "Text: Golden(&&) State(&&) Warriors(&&) win NBA championship against Cleveland Cavaliers.\n"
    'Candidate: ["company", "sports_team", "sports_league", "magazine", "social_organization"].\n'
    "Answer:",
    "Here's a tweet along with its image, where the entities of the text have been labeled using &&, and you need to "
    "determine his category from the candidate set.\n"
    "Text: RT @ AwkwardGoogle : Harry(&&) Potter(&&).\n"
    'Candidate: ["author", "character", "coach", "event_other", "actor"].\n'
    "Answer:",
)


@pytest.mark.parametrize("example", range(3))
def test_table7_prompt_equals_paper_text(example: int) -> None:
    assert table7(tiny.request(example)) == TABLE_7[example]


def test_table7_with_caption_and_hint_contains_both() -> None:
    request = tiny.request(2, caption="two boys on a broom. ", hint={"actor": 0.25123, "author": 0.5, "city": 0.1})
    assert table7(request, "caption", hint=True) == (
        "Here's a tweet along with its caption, where the entities of the text have been labeled using &&, and you "
        "need to determine his category from the candidate set.\n"
        "Caption: two boys on a broom.\n"
        "Text: RT @ AwkwardGoogle : Harry(&&) Potter(&&).\n"
        'Candidate: ["author", "character", "coach", "event_other", "actor"].\n'
        'Probability: {"author": 0.5, "actor": 0.25}.\n'
        "Answer:"
    )
    assert table7(request, "text").startswith("Here's a tweet, where the entities")
    assert table7(tiny.request(2), hint=True) == table7(tiny.request(2))


@pytest.mark.parametrize(
    ("reads", "image", "caption", "sees"),
    [(True, tiny.REF, "c", "image"), (True, None, "c", "text"), (False, tiny.REF, "c", "caption"),
     (False, tiny.REF, None, "text"), (False, None, None, "text")],
)  # fmt: skip
def test_seen_by_model_is_image_caption_or_text(reads: bool, image: Any, caption: str | None, sees: str) -> None:
    assert seen_by(tiny.request(0, image=image, caption=caption), reads_images=reads) == sees


def query(tokens: str, span: tuple[int, int], limit: int) -> Query:
    request = tiny.request(0, tokens=tuple(tokens.split()), token_span=span)
    return fit_prompt(request, "image", hint=False, length=lambda text: len(text.split()), limit=limit)


def test_fit_prompt_truncates_post_around_mention() -> None:
    around = len(table7(tiny.request(0, tokens=("x",), token_span=(0, 1))).split()) - 1
    tokens = "a b c d Ada Example e f g"
    assert query(tokens, (4, 6), around + 9) == Query(text=query(tokens, (4, 6), 999).text)
    cut = query(tokens, (4, 6), around + 6)
    assert "Text: c d Ada(&&) Example(&&) e f.\n" in cut.text and cut.cut
    assert "Text: Ada(&&) Example(&&).\n" in query(tokens, (4, 6), around + 3).text
    assert "Text: Ada(&&).\n" in query(tokens, (4, 6), around + 1).text
    assert "Text: a(&&) b c.\n" in query("a b c d e", (0, 1), around + 3).text
    with pytest.raises(ToolUnavailable, match="no token of the mention 'Ada Example'"):
        query(tokens, (4, 6), around)


@pytest.mark.parametrize(
    "changes",
    [{"token_span": (0, 99)}, {"token_span": (3, 3)}, {"token_span": (-1, 1)}, {"candidates": ("a", "a")},
     {"candidates": ("a", " ")}],
)  # fmt: skip
def test_clean_request_with_invalid_span_or_candidates_raises_e106(changes: dict[str, Any]) -> None:
    with pytest.raises(NamepinError, match="E106"):
        clean_request(tiny.request(0, **changes))


def test_best_of_equal_shares_returns_first_candidate() -> None:
    assert best(("b", "a", "c"), (0.4, 0.4, 0.2)).label == "b"
    assert without_asking(tiny.request(0)) is None


def test_split_answers_join_prompt_and_answer_as_tokenizer_does() -> None:
    words = tiny.tokenizer()
    for example in range(3):
        prompt, answers = TABLE_7[example], [" " + c for c in EXAMPLES[example][2]]
        shared, tails = split_answers(words, prompt, answers)
        for answer, tail in zip(answers, tails, strict=True):
            assert words.decode([*shared, *tail]) == f"<|end|>{prompt}{answer}<|end|>"
        assert f"<|end|>{prompt}".startswith(words.decode(shared))


def test_continuations_allow_prefixes_of_answers_only() -> None:
    allowed = continuations([(1, 2, 9), (1, 9), (3, 9)])
    assert [allowed(start) for start in ((), (1,), (1, 2), (3,), (7, 7))] == [[1, 3], [2, 9], [9], [9], [9]]


def text_tool(folder: Path, **settings: Any) -> TextReranker:
    given = {"weights": str(tiny.save_llama(folder)), "dtype": "float32"} | settings
    return TextReranker(TextRerankerConfig.model_validate(given))


def blip2_tool(folder: Path, language_model: str = "opt", **settings: Any) -> Blip2Reranker:
    given = {"weights": str(tiny.save_blip2(folder, language_model)), "dtype": "float32"} | settings
    return Blip2Reranker(Blip2RerankerConfig.model_validate(given))


def test_text_reranker_reads_caption_and_equals_whole_passes(tmp_path: Path) -> None:
    tool, request = text_tool(tmp_path), tiny.request(1, caption="men with a ball")
    net = LlamaForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    words, prompt = tool.model.tokenizer, table7(request, "caption")
    expected = tiny.naive(lambda ids: net(input_ids=ids).logits, words, prompt, request.candidates)
    found = tool.run([request], Media())[0]
    assert list(found.scores.values()) == pytest.approx(shares(expected), rel=1e-4, abs=1e-9)
    assert tool.run([tiny.request(1)], Media())[0].scores != found.scores


def test_text_reranker_uses_chat_template_when_present(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from support.tiny_chat import TEMPLATE

    tiny.save_llama(tmp_path)
    words = AutoTokenizer.from_pretrained(tmp_path)
    words.chat_template = TEMPLATE
    words.save_pretrained(tmp_path)
    tool = TextReranker(TextRerankerConfig(weights=str(tmp_path), dtype="float32"))
    request = tiny.request(0)
    prompt = f"<|user|>{table7(request, 'text')}<|end|><|assistant|>"
    assert tool.model.prompt(table7(request, "text")) == prompt
    question = tool.model.question(table7(request, "text"), request, Media())
    assert [words.decode(row) for row in question.answers] == [c + "<|end|>" for c in request.candidates]
    assert tool.run([request], Media())[0].label in request.candidates


def blip2_inputs(net: Any, words: Any, request: RerankRequest) -> torch.Tensor:
    ids = torch.tensor([words(table7(request))["input_ids"]])
    seen = picture_tokens(net, [tiny.PICTURE], (CLIP_MEAN, CLIP_STD))
    return torch.cat([seen, net.language_model.get_input_embeddings()(ids)], dim=1)


def test_blip2_reranker_of_opt_equals_whole_passes(tmp_path: Path) -> None:
    tool, request = blip2_tool(tmp_path), tiny.request(0)
    net = Blip2ForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="eager")
    words = tool.model.tokenizer
    seen = picture_tokens(net, [tiny.PICTURE], (CLIP_MEAN, CLIP_STD)).detach()

    def logits(ids: torch.Tensor) -> torch.Tensor:
        embedded = torch.cat([seen, net.language_model.get_input_embeddings()(ids)], dim=1)
        return net.language_model(inputs_embeds=embedded).logits[:, seen.shape[1] :]

    expected = tiny.naive(logits, words, table7(request), request.candidates)
    found = tool.run([request], MEDIA)[0]
    assert list(found.scores.values()) == pytest.approx(shares(expected), rel=1e-4, abs=1e-9)


def test_blip2_reranker_of_t5_equals_whole_passes(tmp_path: Path) -> None:
    tool, request = blip2_tool(tmp_path, "t5"), tiny.request(0)
    net = Blip2ForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="eager")
    words, spoken = tool.model.tokenizer, net.language_model
    expected = []
    with torch.no_grad():
        embedded = blip2_inputs(net, words, request)
        for candidate in request.candidates:
            labels = [*words(candidate, add_special_tokens=False)["input_ids"], words.eos_token_id]
            start = torch.tensor([[spoken.config.decoder_start_token_id, *labels[:-1]]])
            logits = spoken(inputs_embeds=embedded, decoder_input_ids=start).logits[0].log_softmax(-1)
            expected.append(float(sum(logits[i, token] for i, token in enumerate(labels))))
    found = tool.run([request], MEDIA)[0]
    assert list(found.scores.values()) == pytest.approx(shares(expected), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    "make",
    [text_tool, blip2_tool, lambda folder, **s: blip2_tool(folder, "t5", **s)],
    ids=["text", "blip2-opt", "blip2-t5"],
)
def test_local_rerankers_generate_decoder_returns_candidate(make: Callable[..., Any], tmp_path: Path) -> None:
    tool = make(tmp_path, decoder="generate", hint=True)
    requests = [tiny.request(i, hint={c: 0.2 for c in EXAMPLES[i][2]}) for i in range(3)]
    found = tool.run(requests, MEDIA)
    assert all(answer.label in request.candidates for answer, request in zip(found, requests, strict=True))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("make", [text_tool, blip2_tool], ids=["text", "blip2"])
def test_local_rerankers_in_half_precision_stay_close(make: Callable[..., Any], tmp_path: Path, dtype: str) -> None:
    request = tiny.request(0, caption="a park")
    exact = make(tmp_path / "exact").run([request], MEDIA)[0]
    rough = make(tmp_path / "rough", dtype=dtype).run([request], MEDIA)[0]
    assert list(rough.scores.values()) == pytest.approx(list(exact.scores.values()), abs=0.2)
    assert sum(rough.scores.values()) == pytest.approx(1)


def test_text_reranker_with_encoder_weights_raises_e212(tmp_path: Path) -> None:
    from support import tiny_encoders

    with pytest.raises(NamepinError, match="E212"):
        TextReranker(TextRerankerConfig(weights=tiny_encoders.save_tiny_roberta(tmp_path), dtype="float32"))
    tiny.edit_json(tmp_path / "config.json", model_type="t5")
    with pytest.raises(NamepinError, match="E212.*'t5' is not a causal"):
        TextReranker(TextRerankerConfig(weights=str(tmp_path), dtype="float32"))


class OlderDecoder(torch.nn.Module):
    """A decoder as before transformers 5.24, where keys and values were called `past_key_values`."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.resumed = net, list[bool]()

    def forward(self, inputs_embeds: Any, use_cache: bool, past_key_values: Any = None) -> Any:
        name = cache_name(self.net)
        self.resumed.append(past_key_values is not None)
        found = self.net(inputs_embeds=inputs_embeds, use_cache=use_cache, **{name: past_key_values})
        return SimpleNamespace(last_hidden_state=found.last_hidden_state, past_key_values=getattr(found, name))


def test_causal_scorer_passes_cache_under_decoder_parameter_name(tmp_path: Path) -> None:
    net = LlamaForCausalLM.from_pretrained(tiny.save_llama(tmp_path))
    older, answers = OlderDecoder(net.model), ((5, 6, 2), (7, 2))
    question = Question(net.model.embed_tokens(torch.tensor([[3, 4, 5]])), answers)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")  # transformers tells with one that a name is out of date
        found, expected = (
            CausalScorer(decoder, net.lm_head, net.model.embed_tokens, question).log_likelihoods(answers)
            for decoder in (older, net.model)
        )
    assert found == expected and older.resumed == [False, True]
    assert cache_name(older) == "past_key_values"
