"""Shared by every reranker (GEM section 3.3.2): the prompt of Table 7, cut to fit, and answers that need no model.

The table's third line holds the picture. A model that reads no pictures gets the caption instead (section 5.1), and
another instruction; without a caption, the instruction mentions only the text. We worded these instructions and the
hint, since the paper prints only one instruction.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from namepin.tools.base import digest
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.interfaces import Reranked, RerankRequest
from namepin.tools.types import Frozen, Notice

Sees = Literal["image", "caption", "text"]
"""The prompt's content beside the text: the picture itself, its caption, or nothing."""

INSTRUCTION = (
    "Here's a tweet{beside}, where the entities of the text have been labeled using &&, and you need to determine his "
    "category from the candidate set."
)
BESIDE: Mapping[Sees, str] = {"image": " along with its image", "caption": " along with its caption", "text": ""}
MARK = "(&&)"
CAPTION = "Caption: {caption}."
HINT = "Probability: {hint}."
"""Section 5.1's `-h`: the tagger's scores, to reduce a model's overconfidence in its own knowledge."""

EXAMPLES: tuple[tuple[str, tuple[int, int], tuple[str, ...], str], ...] = (
    (
        "The geometry of plants . Garfield Park Conservatory",
        (5, 7),
        ("park", "continent", "city", "country", "software"),
        "park",
    ),
    (
        "Golden State Warriors win NBA championship against Cleveland Cavaliers",
        (0, 3),
        ("company", "sports_team", "sports_league", "magazine", "social_organization"),
        "sports_team",
    ),
    (
        "RT @ AwkwardGoogle : Harry Potter",
        (4, 6),
        ("author", "character", "coach", "event_other", "actor"),
        "character",
    ),
)
"""Table 7's three examples: tokens, the mention's span, candidates, answer."""

PROMPT_DIGEST = digest([INSTRUCTION, dict(BESIDE), MARK, CAPTION, HINT, EXAMPLES])


class Query(Frozen):
    """Table 7's query, and whether the post was cut."""

    text: str
    cut: bool = False


def seen_by(request: RerankRequest, *, reads_images: bool) -> Sees:
    """What a prompt for this request can show beside the text."""
    if reads_images and request.image is not None:
        return "image"
    return "caption" if request.caption and not reads_images else "text"


def table7(request: RerankRequest, sees: Sees = "image", *, hint: bool = False) -> str:
    """The query of Table 7, up to and with `Answer:`; each token of the mention is followed by `(&&)`.

    Args:
        request: the post, the mention, its candidates.
        sees: the prompt's content beside the text.
        hint: add the tagger's scores of the candidates, where the request has them.
    """
    first, last = request.token_span
    marked = [token + MARK if first <= i < last else token for i, token in enumerate(request.tokens)]
    lines = [INSTRUCTION.format(beside=BESIDE[sees])]
    if sees == "caption":
        lines.append(CAPTION.format(caption=str(request.caption).strip().rstrip(".")))
    lines += [f"Text: {' '.join(marked)}.", f"Candidate: {json.dumps(request.candidates, ensure_ascii=False)}."]
    if hint and request.hint:
        scores = {name: round(request.hint[name], 2) for name in request.candidates if name in request.hint}
        lines.append(HINT.format(hint=json.dumps(scores, ensure_ascii=False)))
    return "\n".join([*lines, "Answer:"])


def fit_prompt(request: RerankRequest, sees: Sees, *, hint: bool, length: Callable[[str], int], limit: int) -> Query:
    """`table7`, cut where it is longer than `limit`: the post's ends first, then the mention's.

    Args:
        request: see `table7`.
        sees: see `table7`.
        hint: see `table7`.
        length: gives the length of a query in the model's tokens.
        limit: length of the longest query for the model.

    Raises:
        ToolUnavailable: when not even the mention's first token fits.
    """
    whole = table7(request, sees, hint=hint)
    if length(whole) <= limit:
        return Query(text=whole)
    first, last = request.token_span

    def fits(start: int, end: int) -> bool:
        return length(table7(_window(request, start, end), sees, hint=hint)) <= limit

    if fits(first, last):
        around = _most(lambda n: fits(max(0, first - n), last + n), len(request.tokens))
        start, end = max(0, first - around), last + around
    else:
        start, end = first, first + _most(lambda n: n == 0 or fits(first, first + n), last - first)
    if start == end:
        raise ToolUnavailable(
            "reranker",
            f"no token of the mention {' '.join(request.tokens[first:last])[:60]!r} fits its {limit} tokens",
            mend="raise reranker.max_query_tokens",
        )
    return Query(text=table7(_window(request, start, end), sees, hint=hint), cut=True)


def _window(request: RerankRequest, start: int, end: int) -> RerankRequest:
    """The request with the tokens from `start` to `end` only."""
    first, last = request.token_span
    tokens = request.tokens[start:end]
    return request.model_copy(update={"tokens": tokens, "token_span": (first - start, min(last - start, len(tokens)))})


def _most(holds: Callable[[int], bool], bound: int) -> int:
    """The largest n up to `bound` for which `holds` is true. `holds` must be true for 0 and monotone."""
    low, high = 0, bound
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def clean_request(request: RerankRequest, clean: Callable[[str], str] = str) -> RerankRequest:
    """The request with every token and the caption cleaned.

    Args:
        request: as the graph sends it.
        clean: removes control tokens of the model from a text.

    Raises:
        NamepinError: E106 when the mention lies outside the post, or a candidate is given twice or empty.
        ToolUnavailable: when the cleaned mention is empty.
    """
    first, last = request.token_span
    if not 0 <= first < last <= len(request.tokens):
        raise NamepinError(
            "E106", f"the mention's span {request.token_span} is not within the {len(request.tokens)} tokens",
            where="reranker", mend="give token_span as (first, end), end exclusive",
        )  # fmt: skip
    if len(set(request.candidates)) < len(request.candidates) or not all(map(str.strip, request.candidates)):
        raise NamepinError(
            "E106", f"a candidate is empty or given twice: {list(request.candidates)}",
            where="reranker", mend="give each type once",
        )  # fmt: skip
    tokens = tuple(clean(token).strip() for token in request.tokens)
    if not any(tokens[first:last]):
        raise ToolUnavailable(
            "reranker", "the mention consists of the model's control tokens, so nothing is left of it"
        )
    caption = clean(request.caption).strip() if request.caption else None
    return request.model_copy(update={"tokens": tokens, "caption": caption})


def without_asking(request: RerankRequest) -> Reranked | None:
    """The answer for a request with only one candidate."""
    return (
        Reranked(label=request.candidates[0], scores={request.candidates[0]: 1.0})
        if len(request.candidates) == 1
        else None
    )


def best(candidates: Sequence[str], shares: Sequence[float], notices: Sequence[Notice] = ()) -> Reranked:
    """The candidate with the largest share; among equals the first, which has the higher score of the tagger."""
    at = max(range(len(candidates)), key=lambda i: (shares[i], -i))
    return Reranked(label=candidates[at], scores=dict(zip(candidates, shares, strict=True)), notices=tuple(notices))


def cut_notice(tool: str, request: RerankRequest) -> Notice:
    """W143: the model read only a part of the post."""
    first, last = request.token_span
    mention = " ".join(request.tokens[first:last])[:60]
    return Notice(code="W143", tool=tool, message=f"the post is too long: only the words about {mention!r} were read")
