"""Content of prompts: pictures as data URLs, and escaped untrusted text.

Escaped text cannot close a tag or a quote of the prompt, and cannot open a control token of the model's chat format,
such as `<|im_end|>`.
"""

import base64
import io
import json
from typing import Any

from PIL import Image


def data_url(image: Image.Image, max_side: int) -> str:
    """An upright RGB picture as a JPEG data URL, scaled so that its longer side has at most `max_side` pixels."""
    scale = max_side / max(image.size)
    if scale < 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def picture_and_text(url: str, text: str) -> list[str | dict[str, Any]]:
    """The content of a message: a picture by its data URL, then text."""
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]


def escape_text(text: str) -> str:
    """Text with angle brackets as entities, for a place between tags of the prompt."""
    return text.replace("<", "&lt;").replace(">", "&gt;")


def escape_line(text: str) -> str:
    """`escape_text` on one line, so that it cannot begin a line of the prompt."""
    return " ".join(escape_text(text).split())


def quote_text(text: str) -> str:
    """Text as a JSON string without `<` and `>`."""
    return json.dumps(text, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e")
