"""What every neural matcher shares: the text it asks about, and pictures looked up by their content."""

from typing import Any

from PIL import Image

from tools.errors import NamepinError
from tools.interfaces import Query
from tools.media import Media
from tools.types import ImageRef

MATCH_PROMPT = "{entity} is belong {category}."
"""GEM's Table 8, word for word: the models are tuned on it."""


def match_text(query: Query) -> str:
    """The mention as the models see it, `ENTITY is belong CATEGORY.` with its full stop."""
    return MATCH_PROMPT.format(entity=query.text, category=query.category)


def picture(image: ImageRef, media: Media) -> Image.Image:
    """The upright pixels of `image`.

    Raises:
        NamepinError: E120 when `media` does not hold them.
    """
    found = media.images.get(image.sha256)
    if found is None:
        raise NamepinError(
            "E120", "the picture's pixels are not at hand", where=image.sha256[:12], mend="load it first"
        )
    return found


def without_special(text: str, tokenizer: Any) -> str:
    """`text` without the tokenizer's special tokens: whoever writes `[SEP]` in a post means the letters."""
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    for token in sorted(special, key=lambda token: (-len(token), token)):
        text = text.replace(token, " ")
    return text
