"""Whether the picture entails an expression: BLIP's image-text matching head, asked about the whole expression.

A maintained replacement for OFA and ALBEF. It is trained to say whether a sentence fits a picture, but was never tuned
on entailment. The score is P_T, the softmax of the two ITM logits at "match".
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.entailment.checks import check_expressions, judge
from namepin.tools.entailment.config import BlipEntailmentConfig
from namepin.tools.interfaces import Entailments, EntailRequest
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.media import Media
from namepin.tools.models.blip import Blip, shared_blip
from namepin.tools.types import Notice


class BlipEntailment:
    """One vision pass per picture, and one batch of expressions for all its mentions (`EntailmentTool`)."""

    name: ClassVar[str] = "entailment_blip"
    version: ClassVar[int] = 1

    def __init__(self, config: BlipEntailmentConfig, blip: Blip | None = None) -> None:
        """Use `blip` if given, else load or share the model of `config.blip`.

        Raises:
            NamepinError: E210 to E218, as `shared_blip`.
        """
        self.config = config
        self.blip = blip or shared_blip(config.blip)

    @property
    def fingerprint(self) -> str:
        """Covers weights and settings; not device and batch sizes."""
        identity = self.blip.identity
        return fingerprint(self.name, self.version, identity, weights=identity["checkpoint"])

    def run(self, requests: Sequence[EntailRequest], media: Media) -> list[Entailments]:
        """Label and P_T for every query of every request.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small, or the weights give numbers that are not finite.
        """
        images = [request.image for request in check_expressions(requests) if request.queries]
        embeddings = self.blip.embeddings(images, media)
        return [self._entailments(request, embeddings.get(request.image.sha256)) for request in requests]

    def _entailments(self, request: EntailRequest, embedding: Tensor | None) -> Entailments:
        if embedding is None or not request.queries:
            return Entailments(entailments=())
        texts, cut = self.blip.texts.plain([query.expression for query in request.queries])

        def score(part: slice) -> list[float]:
            logits = self.blip.logits(embedding, texts.rows(part))
            return [float(p) for p in logits.cpu().double().softmax(dim=-1)[:, 1]]

        parts, notices = in_batches(len(request.queries), self.config.blip.text_batch, score, self.name)
        if cut:
            message = f"of {cut} expressions only the first {self.config.blip.max_text_tokens} tokens were read"
            notices = (Notice(code="W145", tool=self.name, message=message), *notices)
        judgements = tuple(judge(score, self.name) for part in parts for score in part)
        return Entailments(entailments=judgements, notices=notices)
