"""Whether the picture entails an expression: OFA, tuned for visual entailment (RiVEG section IV-C1).

The question has the form of RiVEG's data files: the expression replaces SNLI-VE's caption, and the picture's caption
replaces the hypothesis. The decoder reads the question again and answers yes or no. The answers form a trie; at each
step the probabilities are normalised over the tokens that the trie allows, including the end of the text. The score is
the softmax over the log-probabilities of the two answers. OFA's third answer, "maybe", does not occur in RiVEG's data.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.entailment.checks import check_expressions, judge
from namepin.tools.entailment.config import OfaEntailmentConfig
from namepin.tools.interfaces import Entailments, EntailRequest
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.media import Media
from namepin.tools.models.ofa import OfaModel, as_in_riveg, shared_ofa
from namepin.tools.models.ofa_vocabulary import END, MAX_WORDS, pad_rows
from namepin.tools.nets.ofa import Memory, Ofa, Patches
from namepin.tools.types import Notice

QUESTION = ' can image and text1 " {expression} " imply text2 " {caption} "?'
WITHOUT_CAPTION = ' does the image describe " {expression} "?'
"""The question of OFA's data code without a caption."""

ANSWERS = (" yes", " no")


class OfaEntailment:
    """Runs the ResNet once per picture, and one batch of questions for all its mentions (`EntailmentTool`)."""

    name: ClassVar[str] = "entailment_ofa"
    version: ClassVar[int] = 1

    def __init__(self, config: OfaEntailmentConfig, ofa: OfaModel | None = None) -> None:
        """Use `ofa` if given, else load or share the model of `config.ofa`.

        Raises:
            NamepinError: E210 to E218, as `shared_ofa`.
        """
        self.config = config
        self.ofa = ofa or shared_ofa(config.ofa)
        self.ofa.check_size(config.image_size)
        self._answers = [(*self.ofa.vocabulary.ids(answer), END) for answer in ANSWERS]

    @property
    def fingerprint(self) -> str:
        """Covers weights, picture size and prompts; not device and batch sizes."""
        settings = self.config.model_dump(include={"image_size"})
        prompt = "\n".join((QUESTION, WITHOUT_CAPTION, *ANSWERS))
        return fingerprint(self.name, self.version, settings, weights=self.ofa.identity, prompt=prompt)

    def run(self, requests: Sequence[EntailRequest], media: Media) -> list[Entailments]:
        """Label and P(entailment) for every query of every request.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small, or the weights give numbers that are not finite.
        """
        asked = [request.image for request in check_expressions(requests) if request.queries]
        with torch.inference_mode():
            patches = self.ofa.patches(asked, media, self.config.image_size)
            return [self._entailments(request, patches.get(request.image.sha256)) for request in requests]

    def _entailments(self, request: EntailRequest, patches: Patches | None) -> Entailments:
        if patches is None:  # no query is about this picture
            return Entailments(entailments=())
        caption, caption_cut = self.ofa.vocabulary.normalise_text(request.caption or "")
        spelled = [self.ofa.vocabulary.normalise_text(as_in_riveg(query.expression)) for query in request.queries]
        captioned = any(map(str.isalnum, caption))
        question = QUESTION if captioned else WITHOUT_CAPTION
        prompts = [
            self.ofa.prompt(question.format(expression=expression, caption=caption)) for expression, _ in spelled
        ]

        def score(part: slice) -> list[float]:
            memory = self.ofa.read(patches, prompts[part])
            scores = answer_scores(self.ofa.net, memory, [prompt[:-1] for prompt in prompts[part]], self._answers)
            return [float(yes) for yes in scores.cpu().double().softmax(-1)[:, 0]]

        parts, halved = in_batches(len(prompts), self.config.ofa.text_batch, score, self.name)
        cut = sum(cut for _, cut in spelled) + (captioned and caption_cut)
        notices = (*self._notices(cut, captioned), *halved)
        return Entailments(
            entailments=tuple(judge(score, self.name) for part in parts for score in part), notices=notices
        )

    def _notices(self, cut: int, captioned: bool) -> list[Notice]:
        notices = []
        if cut:
            message = f"of {cut} expressions or captions only the first {MAX_WORDS} words were read"
            notices.append(Notice(code="W145", tool=self.name, message=message))
        if not captioned:
            message = "the picture has no caption: asked OFA's question for a picture alone"
            notices.append(Notice(code="W146", tool=self.name, message=message))
        return notices


def answer_scores(
    net: Ofa, memory: Memory, starts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> Tensor:
    """The log-probability of each answer after each start, among the answers that the trie still allows.

    Args:
        net: the OFA.
        memory: the encoder's states of the questions, one per start.
        starts: ids that the decoder reads before it answers.
        answers: ids, each with its end token; no answer may be the beginning of another.

    Returns:
        (starts, answers).
    """
    device = memory.states.device
    rows = pad_rows([[*start, *answer[:-1]] for start in starts for answer in answers], device)
    states, _ = net.decode(rows, memory)
    states = states.reshape(len(starts), len(answers), *states.shape[1:])
    scores: Tensor = states.new_zeros(len(starts), len(answers))
    lengths = torch.tensor([len(start) for start in starts], device=device)
    each = torch.arange(len(starts), device=device)
    for index, answer in enumerate(answers):
        for step, token in enumerate(answer):
            allowed = sorted({other[step] for other in answers if tuple(other[:step]) == tuple(answer[:step])})
            logits = net.logits(states[each, index, lengths - 1 + step])[:, allowed]
            scores[:, index] += logits.log_softmax(-1)[:, allowed.index(token)]
    return scores
