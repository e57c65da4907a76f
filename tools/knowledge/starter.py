"""The knowledge tool of the starter: asks for what the shipped adapter was trained on, without annotated samples.

The adapter learnt from the recorded answers to PLIM's prompt: every name with its type in brackets, then the reasons.
This tool asks with that prompt, and shows the form by samples of Namepin's own. `plim` shows a user's annotated samples
instead, `chat` asks with GEM's Table 6.
"""

from typing import ClassVar

from langchain_core.messages import BaseMessage

from namepin.tools.base import digest
from namepin.tools.interfaces import Example, KnowledgeRequest
from namepin.tools.knowledge.plim import PlimKnowledge

_OWN = (
    (
        "Serena Williams holds the trophy again at Wimbledon #tennis",
        "a woman in white holding a silver plate",
        "Named entities: 1. Serena Williams (person/athlete) 2. Wimbledon (event/sports event) Reasoning: The sentence "
        "mentions Serena Williams, an American tennis player with many Grand Slam titles. Wimbledon is a tennis "
        "tournament in London. The woman with the plate in the image is likely Serena Williams after a final.",
    ),
    (
        "Good morning, coffee first",
        "a cup on a wooden table",
        "Named entities: none Reasoning: The sentence is a greeting about coffee, and names nobody and nothing.",
    ),
    (
        "NASA shows the Mars rover Perseverance in Pasadena, California",
        "a vehicle with six wheels in a hall",
        "Named entities: 1. NASA (organization/government agency) 2. Mars (location/location other) 3. Perseverance "
        "(product/product other) 4. Pasadena (location/city) 5. California (location/state) Reasoning: The sentence "
        "mentions NASA, the space agency of the United States. Perseverance is its rover on Mars. Pasadena is a city "
        "in the state of California, with the laboratory that built the rover. The vehicle in the image is likely the "
        "rover.",
    ),
    (
        "Coldplay play Fix You for BBC Radio 1 tonight, thanks Chris Martin",
        None,
        "Named entities: 1. Coldplay (group/band) 2. Fix You (work/music) 3. BBC Radio 1 (organization/news agency) "
        "4. Chris Martin (person/musician) Reasoning: The sentence mentions Coldplay, a British band, and their song "
        "Fix You. BBC Radio 1 is a radio station of the BBC. Chris Martin is the singer of Coldplay.",
    ),
)

SAMPLES = tuple(
    Example(id=f"own-{number}", text=text, caption=caption, annotation=annotation)
    for number, (text, caption, annotation) in enumerate(_OWN, 1)
)


class StarterKnowledge(PlimKnowledge):
    """Explains posts in the style of the shipped adapter (`KnowledgeTool`).

    The samples are Namepin's own, unless the request brings others. Errors, retries, bounds and the cache are as in
    `ChatKnowledge`.
    """

    prompt_digest: ClassVar[str] = digest([PlimKnowledge.prompt_digest, _OWN])

    def conversation(self, request: KnowledgeRequest) -> list[BaseMessage]:
        """PLIM's template with the samples; without a caption of the post, they are shown without theirs, too."""
        if not request.examples:
            samples = SAMPLES if request.caption else tuple(s.model_copy(update={"caption": None}) for s in SAMPLES)
            request = request.model_copy(update={"examples": samples})
        return super().conversation(request)
