"""Answers as sentences: short, in the order of the questions, never more certain than the numbers."""

from collections.abc import Sequence

from namepin.agent.config.settings import Settings
from namepin.agent.render.view import kind, notice_sentence, printable, short, shown_score, typing
from namepin.graphs.review_nodes import YES, Question
from namepin.tools.types import Entity, Extraction

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def summary(extraction: Extraction, profile: str) -> str:
    """The names of a post, one numbered line per name, and every warning."""
    if extraction.status == "failed":
        return "This post failed.\n" + _warnings(extraction)
    count = len(extraction.entities)
    head = {0: "No names found", 1: "1 name found"}.get(count, f"{count} names found")
    lines = [f"{head} (profile {profile}{', degraded' if extraction.status == 'degraded' else ''})."]
    lines += [f"{number}. {line(entity)}" for number, entity in enumerate(extraction.entities, 1)]
    if count and extraction.image is None:
        lines.append("There is no picture, so no name was looked for in one.")
    return "\n".join(filter(None, ["\n".join(lines), _warnings(extraction)]))


def line(entity: Entity) -> str:
    """One name: type, probability, and whether and where it is in the picture."""
    typed = typing(entity, in_words=True)
    value = shown_score(entity)
    return f"{printable(entity.text)}: {typed}{'' if value is None else f' ({value:.2f})'}; {where(entity)}"


def where(entity: Entity) -> str:
    """Whether and where a name is in the picture."""
    sure = "" if entity.match_score is None else f" ({entity.match_score:.2f})"
    if entity.cannot_tell:
        return "cannot tell whether it is in the picture" + (
            f": {printable(entity.evidence)}" if entity.evidence else ""
        )
    if entity.groundable is None:
        return "no tool looked for it in a picture"
    if not entity.groundable:
        return f"not in the picture{sure}"
    at = " at " + ", ".join(f"{value:.0f}" for value in entity.box) if entity.box else ", place unknown"
    return (
        f"in the picture{sure}{at}{', with a mask' if entity.mask else ''}{', ambiguous' if entity.ambiguous else ''}"
    )


def phrase_question(question: Question) -> tuple[str, str]:
    """A review's question, and the numbers behind it."""
    name = printable(question.mention)
    if question.kind == "place":
        return f"Is {name!r} in the picture?", f"match score {question.value:.3f}, threshold {question.threshold:g}"
    if question.measure == "probability":
        return f"What is {name!r}?", f"probability {question.value:.3f}, threshold {question.threshold:g}"
    return f"What is {name!r}?", f"entropy {question.value:.3f} nats, gamma {question.threshold:g}"


def phrase_decision(question: Question, answer: str) -> str:
    """A person's answer to a review's question."""
    name = printable(question.mention)
    if question.kind == "place":
        return f"{name!r} is {'' if answer == YES else 'not '}in the picture"
    return f"{name!r}: {answer.replace('_', ' ')}"


def explanation(entity: Entity, settings: Settings) -> str:
    """Explain a name's type and place: the numbers, their thresholds, the tools."""
    return "\n".join(
        [
            f"{printable(entity.text)}:",
            f"- Type: {_type(entity, settings)}",
            f"- Picture: {_place(entity, settings)}",
            f"- Tools that took part: {', '.join(entity.provenance) or 'none'}.",
        ]
    )


def _type(entity: Entity, settings: Settings) -> str:
    best = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in list(entity.scores.items())[:4])
    parts = [f"{typing(entity, in_words=True)}." + (f" The tagger's scores: {best}." if best else "")]
    if entity.type_confidence is not None:
        fine = kind(entity, sure=True)
        parts.append(
            f"The calibrated probability that the name and {fine!r} are right is {entity.type_confidence:.2f}."
        )
    if entity.type_uncertain:
        parts.append(f"That is below {settings.gate.uncertain:g}, so only the coarse type is shown.")
    if entity.entropy is not None:
        gamma = settings.gate.gamma
        side = "above" if entity.entropy > gamma else "not above"
        parts.append(f"Their entropy is {entity.entropy:.2f} nats, {side} the gate's {gamma:g}")
        if entity.reranked:
            parts[-1] += ", so the reranker was called, and it chose this type."
        elif entity.entropy > gamma and "reranker" not in settings.tools:
            parts[-1] += "; this profile has no reranker, so the tagger's type is used."
        else:
            parts[-1] += ", so the tagger's type is used."
        if entity.near_gamma:
            parts.append("It is close to the gate's threshold, so another batch size could change the decision.")
    return " ".join(parts)


def _place(entity: Entity, settings: Settings) -> str:
    if entity.cannot_tell:
        return where(entity) + "."
    if entity.groundable is None:
        return "there was no picture, or no tool of this profile that looks for names in one."
    parts = [where(entity)[0].upper() + where(entity)[1:] + "."]
    if entity.match_score is not None:
        side = "reaches" if entity.match_score >= settings.match.threshold else "is below"
        parts.append(f"The match score {entity.match_score:.2f} {side} the threshold {settings.match.threshold:g}.")
    if entity.expression:
        parts.append(f"It was looked for as: {printable(entity.expression)}.")
    if entity.evidence:
        parts.append(f"What was seen: {printable(entity.evidence)}.")
    if entity.ambiguous:
        parts.append("Another name or region competed for the same place.")
    if entity.mask_score is not None:
        parts.append(f"The segmenter's confidence in the mask is {entity.mask_score:.2f}.")
    return " ".join(parts)


def _warnings(extraction: Extraction) -> str:
    return "\n".join(f"! {printable(notice_sentence(w))}" for w in extraction.warnings)


def differences(profiles: Sequence[str], extractions: Sequence[Extraction]) -> list[dict[str, str]]:
    """A table: one row per name that any profile found, one column per profile."""
    spans: dict[tuple[int, int], str] = {}
    for extraction in extractions:
        spans |= {(entity.start, entity.end): entity.text for entity in extraction.entities}
    rows = []
    for (start, end), text in sorted(spans.items()):
        row = {"name": short(text, 40)}
        for profile, extraction in zip(profiles, extractions, strict=True):
            found = [e for e in extraction.entities if (e.start, e.end) == (start, end)]
            row[profile] = f"{typing(found[0], in_words=True)}; {where(found[0])}" if found else "not found"
        rows.append(row)
    return rows


def as_markdown(rows: Sequence[dict[str, str]]) -> str:
    """A table as Markdown. Cells are escaped, so that a cell cannot end its row or start another."""
    if not rows:
        return "(nothing to show)"
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(_cell(row[key]) for key in head) + " |" for row in rows)])


def _cell(value: str) -> str:
    return printable(value).replace("|", "\\|")


def which(entities: Sequence[Entity], reference: str) -> int | None:
    """The index of the entity that a user means, by number, ordinal or name; or of the only entity.

    A pronoun means the last entity that fits: "she" a person, "it" anything else.
    """
    from rapidfuzz import fuzz

    words = reference.casefold().replace("#", " ").strip(" ?.!").split()
    for word in words:
        word = word.strip(",;:'\"()")
        number = int(word) if word.isdecimal() and len(word) < 4 else None
        number = _ORDINALS.index(word) + 1 if word in _ORDINALS else number
        if number is not None and 1 <= number <= len(entities):
            return number - 1
        if word == "last" and entities:
            return len(entities) - 1
    near = [fuzz.partial_ratio(entity.text.casefold(), " ".join(words)) for entity in entities]
    if near and max(near) >= 85:
        return near.index(max(near))
    people = bool({"he", "she", "him", "her", "they", "who"} & set(words))
    fitting = [i for i, e in enumerate(entities) if (e.label == "PER") == people]
    absent = [i for i in fitting if not entities[i].groundable] if "not" in words or "n't" in reference else fitting
    if people or {"it", "its", "that", "this"} & set(words):
        chosen = absent or fitting
        return chosen[-1] if chosen else None
    return 0 if len(entities) == 1 else None
