"""OFA's vocabulary: GPT-2's byte pairs in fairseq's order, then picture codes, then location bins.

Published OFA: 50,265 words (four special ones first, `<mask>` last), 8,192 codes, 1,000 bins. A post cannot contain a
special word, code or bin: `<bin_7>` in a text is five ordinary pieces.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from namepin.tools.loading.pins import pinned_revision
from namepin.tools.loading.pretrained import read_json

BEGIN, PAD, END, UNKNOWN = 0, 1, 2, 3
"""The first four words."""

MAX_WORDS = 80
"""Largest number of words of an expression or caption; OFA's own bound (`max_src_length`)."""

_MAX_PIECES = 400
"""Largest number of pieces of the same; two such texts and a question fit OFA's 1,024 places. OFA fails on more."""

_FILES = (("vocab.json", "merges.txt"), ("dict.txt", "encoder.json", "vocab.bpe"))
"""The byte-pair files of transformers (also BART's), and of OFA's repository in utils/BPE."""

_MEND = (
    "put vocab.json and merges.txt (OFA's or BART's), or all of OFA's utils/BPE, beside the weights, or set tokenizer"
)


class OfaVocabulary:
    """Texts to ids, and the ids of bins."""

    def __init__(self, vocabulary: dict[str, int], merges: Sequence[tuple[str, str]], codes: int, bins: int) -> None:
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel

        # The tokenizer knows no special words, so that no text can contain one.
        self._pieces = Tokenizer(BPE(vocab=vocabulary, merges=list(merges), unk_token="<unk>"))
        self._pieces.pre_tokenizer = ByteLevel(add_prefix_space=False)
        self.words, self.bins = len(vocabulary), bins
        self.first_bin = self.words + codes
        self.size = self.first_bin + bins
        self.identity = digest([vocabulary, [list(pair) for pair in merges], codes, bins])

    def ids(self, text: str) -> list[int]:
        """The pieces of a text, without added ones."""
        return list(self._pieces.encode(text).ids)

    def save(self, folder: Path) -> None:
        """Write `vocab.json` and `merges.txt`, which `load_vocabulary` reads."""
        self._pieces.model.save(str(folder))

    def bin_ids(self) -> Tensor:
        """The ids of all bins, in order."""
        return torch.arange(self.first_bin, self.size)

    def normalise_text(self, text: str) -> tuple[str, bool]:
        """A text cleaned as in OFA's data code, and whether its end was cut off.

        Lower case, without leading punctuation, blanks for dashes and slashes, at most `MAX_WORDS` words.
        """
        text = text.lower().lstrip(",.!?*#:;~").replace("-", " ").replace("/", " ").replace("<person>", "person")
        words = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ").split(" ")
        cut = " ".join(words[:MAX_WORDS])
        pieces = self._pieces.encode(cut).offsets
        if len(pieces) > _MAX_PIECES:
            return cut[: pieces[_MAX_PIECES][0]].rstrip(" "), True
        return cut, len(words) > MAX_WORDS


def load_vocabulary(place: str, vocabulary: int, codes: int, bins: int) -> OfaVocabulary:
    """The vocabulary of a folder or hub name.

    Args:
        place: a folder with one of the two sets of files, or the hub name of an OFA or BART.
        vocabulary: number of token embeddings of the weights.
        codes: number of picture codes among them.
        bins: number of bins at their end.

    Raises:
        NamepinError: E211 when a file is damaged, E213 when the hub does not provide it, E218 when there is none, or it
            does not belong to the weights.
    """
    folder = Path(place) if Path(place).is_dir() else _from_hub(place)
    files = word_files(folder)
    if not files:
        raise NamepinError("E218", "no vocabulary for OFA here", where=place, mend=_MEND)
    pieces = read_json(folder / "vocab.json") if files == _FILES[0] else _fairseq_order(folder)
    merges = _merges(folder / files[-1])
    if sorted(pieces.values()) != list(range(len(pieces))) or len(pieces) + codes + bins != vocabulary:
        raise NamepinError(
            "E218",
            f"{len(pieces)} words, {codes} codes and {bins} bins are not the weights' {vocabulary} tokens",
            where=place,
            mend="use the vocabulary that belongs to the weights",
        )
    try:
        return OfaVocabulary(pieces, merges, codes, bins)
    except Exception as error:  # the tokenizers library raises only this type
        raise NamepinError("E211", f"not a vocabulary of byte pairs: {error}", where=place, mend=_MEND) from error


def word_files(folder: Path) -> tuple[str, ...]:
    """The vocabulary files in `folder`; empty unless a set is complete."""
    return next((names for names in _FILES if all((folder / name).is_file() for name in names)), ())


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    if name.count("/") != 1:
        raise NamepinError("E218", "no vocabulary for OFA here", where=name, mend=_MEND)
    try:
        return Path(snapshot_download(name, revision=pinned_revision(name), allow_patterns=list(_FILES[0])))
    except Exception as error:  # see namepin.tools.loading.pretrained.locate
        raise NamepinError("E213", f"the hub did not give {name!r}: {error}", mend=_MEND) from error


def _merges(path: Path) -> list[tuple[str, str]]:
    lines = (line.split(" ") for line in _lines(path) if line and not line.startswith("#version"))
    return [(pair[0], pair[1]) for pair in lines if len(pair) == 2]


def _fairseq_order(folder: Path) -> dict[str, int]:
    """Piece -> id: dict.txt lists GPT-2's ids in fairseq's order, after the four special words."""
    by_number = {str(number): piece for piece, number in read_json(folder / "encoder.json").items()}
    ids = {"<s>": BEGIN, "<pad>": PAD, "</s>": END, "<unk>": UNKNOWN}
    for line in _lines(folder / "dict.txt"):
        if line:
            name = line.rpartition(" ")[0]
            ids[by_number.get(name, name)] = len(ids)
    return ids | {"<mask>": len(ids)}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise NamepinError("E211", f"not readable as text: {error}", where=str(path), mend="copy it again") from error


def pad_rows(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Rows of ids (n, longest), filled up on the right with `PAD`."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *([PAD] * (longest - len(row)))] for row in rows], device=device)
