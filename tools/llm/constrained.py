"""Limits a chat model's answer to a few candidates: the guide for the server, and the parser of the answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from namepin.tools.llm.answers import json_objects, repaired_object

Guide = Literal["json_schema", "structured_outputs", "guided_choice", "none"]
"""The way to limit the server to the candidates: `json_schema` is OpenAI's `response_format`, `structured_outputs` is
vLLM's, `guided_choice` is vLLM's up to 0.11. `none` is for servers without any of them."""


def constrain(guide: Guide, candidates: Sequence[str], field: str) -> Mapping[str, Any]:
    """The part of a request's body that allows only the candidates.

    Args:
        guide: the way that the server supports.
        candidates: the allowed answers.
        field: key of the answer in the JSON object, where the guide asks for one.
    """
    if guide == "guided_choice":
        return {"guided_choice": list(candidates)}
    if guide == "structured_outputs":
        return {"structured_outputs": {"choice": list(candidates)}}
    if guide == "none":
        return {}
    schema = {
        "type": "object",
        "properties": {field: {"type": "string", "enum": list(candidates)}},
        "required": [field],
        "additionalProperties": False,
    }
    return json_schema(field, schema)


def json_schema(name: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a request's body that allows only JSON of a schema (OpenAI's `response_format`)."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}}


def parse_choice(answer: str, candidates: Sequence[str], field: str) -> str | None:
    """The candidate that an answer names, as plain text or in the JSON `field`; None when it names none.

    A thinking model's text before `</think>` is not its answer.
    """
    text = answer.rpartition("</think>")[2].strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = next(json_objects(text), None) or repaired_object(text) or text
    text = str(value.get(field, "")) if isinstance(value, dict) else str(value)
    text = text.strip(" \t\r\n.`\"'")
    return next((candidate for candidate in candidates if candidate.casefold() == text.casefold()), None)
