"""SeqTR's vocabulary: the words of its training expressions, numbered in the order in which they occur.

The file is a JSON object, word -> row of the embeddings, with `PAD` (0) and `UNK` for unknown words.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from namepin.tools.errors import NamepinError
from namepin.tools.loading.pretrained import read_json

PAD = "PAD"
UNKNOWN = "UNK"
_RESERVED = (PAD, UNKNOWN, "CLS")
FILE = "token_to_ix.json"


def normalise_words(expression: str) -> list[str]:
    """An expression's words as in the authors' data code: lower case, without most punctuation."""
    return re.sub(r"[.,'!?\"()*#:;]", "", expression.lower()).replace("-", " ").replace("/", " ").split()


def vocabulary_of(annotations: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """The vocabulary of the authors' `instances.json`: split -> annotations, each with its `expressions`.

    It depends on the order of the splits in the file, and so do weights trained with it.
    """
    words = {word: row for row, word in enumerate(_RESERVED)}
    for split in annotations.values():
        for annotation in split:
            for expression in annotation["expressions"]:
                for word in normalise_words(expression):
                    words.setdefault(word, len(words))
    return words


def load_vocabulary(path: Path, rows: int) -> dict[str, int]:
    """A vocabulary for word embeddings of `rows` rows.

    Raises:
        NamepinError: E218 when it is missing or does not fit.
    """
    if not path.is_file():
        raise NamepinError(
            "E218",
            "no vocabulary: SeqTR's checkpoints contain none",
            where=str(path),
            mend=f"make {FILE} from the annotations it was trained with (docs/riveg.md)",
        )
    words = read_json(path)
    numbers = list(words.values())
    fits = all(type(number) is int and 0 <= number < rows for number in numbers)
    if not fits or len(set(numbers)) != rows or words.get(PAD) != 0 or UNKNOWN not in words:
        raise NamepinError(
            "E218",
            f"the vocabulary does not number the embeddings' {rows} rows from {PAD} (0) on, with {UNKNOWN}",
            where=str(path),
            mend="use the vocabulary that belongs to the weights",
        )
    return words


def rows_of(words: Sequence[str], vocabulary: Mapping[str, int], most: int) -> list[int]:
    """The rows of the embeddings for the first `most` words, padded to that number."""
    rows = [vocabulary.get(word, vocabulary[UNKNOWN]) for word in words[:most]]
    return rows + [0] * (most - len(rows))
