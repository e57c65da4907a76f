"""From a parsed answer to the tool's result: aligned mentions, boxes in pixels, and warnings of what is left out."""

from collections.abc import Iterator, Sequence

from namepin.tools.extractor.align import Alignment, align
from namepin.tools.extractor.answer import Answer, AnswerItem
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.scores import ItemScore
from namepin.tools.interfaces import Extracted, ExtractRequest, Place
from namepin.tools.text import tweet_tokens
from namepin.tools.types import Mention, Notice, token_offsets

NOT_IN_TEXT, FOREIGN, BAD_BOX, INCOMPLETE, LONG = "W160", "W161", "W162", "W163", "W164"


def extracted(
    request: ExtractRequest,
    answer: Answer,
    frame: BoxFrame | None,
    tool: str,
    scores: Sequence[ItemScore] | None = None,
) -> Extracted:
    """The mentions and places that an answer stands for. Nothing in it is outside the post's text or picture.

    Args:
        request: the post.
        answer: the parsed answer.
        frame: how the model counts in the post's picture; None without a picture.
        tool: the tool's name, for the warnings.
        scores: one per item of the answer, by `AnswerItem.row`.
    """
    tokens = request.tokens or tweet_tokens(request.text)
    offsets = token_offsets(request.text, tokens)
    aligned = align(answer.items, tokens)
    scored = [scores[item.row] if scores else None for _, item in aligned.placed]
    mentions = tuple(
        _mention(index, request.text, offsets, span, item, score)
        for index, ((span, item), score) in enumerate(zip(aligned.placed, scored, strict=True))
    )
    places = tuple(_place(item, frame, score) for (_, item), score in zip(aligned.placed, scored, strict=True))
    unusable = sum(bool(place.groundable) and place.box is None for place in places)
    notices = tuple(
        Notice(code=code, tool=tool, message=message) for code, message in _warnings(answer, aligned, unusable)
    )
    return Extracted(tokens=tokens, mentions=mentions, places=places, notices=notices)


def long_post(text: str, most: int, tool: str) -> tuple[Notice, ...]:
    """W164 where a post is longer than the prompt's bound."""
    left = len(text) - most
    return (Notice(code=LONG, tool=tool, message=f"the last {left} characters of the post were not read"),) * (left > 0)


def _mention(
    index: int,
    text: str,
    offsets: tuple[tuple[int, int], ...],
    span: tuple[int, int],
    item: AnswerItem,
    score: ItemScore | None,
) -> Mention:
    start, end = offsets[span[0]][0], offsets[span[1] - 1][1]
    return Mention(
        index=index,
        text=text[start:end],
        start=start,
        end=end,
        token_span=span,
        label=item.label,
        fine_label=item.fine,
        scores={item.fine or item.label: score.type} if score else {},
    )


def _place(item: AnswerItem, frame: BoxFrame | None, score: ItemScore | None) -> Place:
    if frame is None:
        return Place()
    if item.box is None:
        return Place(groundable=False, score=score.present if score else None)
    return Place(groundable=True, score=score.present if score else None, box=frame.to_pixels(item.box))


def _warnings(answer: Answer, aligned: Alignment, unusable: int) -> Iterator[tuple[str, str]]:
    if aligned.unplaced:
        names = ", ".join(repr(item.text[:40]) for item in aligned.unplaced[:5])
        yield NOT_IN_TEXT, f"{len(aligned.unplaced)} of the answered names are not in the text, or not again: {names}"
    if answer.foreign:
        yield FOREIGN, f"{answer.foreign} of the answered names have a type of no scheme, and were left out"
    if unusable:
        yield BAD_BOX, f"{unusable} of the answered boxes are not boxes within the picture, and were left out"
    left = answer.malformed + answer.more
    if left or answer.cut:
        parts = [f"{answer.malformed} items of another form"] * bool(answer.malformed)
        parts += [f"{answer.more} items beyond the bound"] * bool(answer.more)
        parts += ["whatever followed where the answer was cut off"] * answer.cut
        yield INCOMPLETE, f"the answer is incomplete; left out: {', '.join(parts)}"
