"""Which tools there are: role of the graph -> backend's name in a profile -> its class and its config's class.

They are named rather than imported, so that reading a profile loads nothing that the profile does not use.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from pydantic import BaseModel

OFF = "off"
"""The backend of a role that the profile leaves out."""


@dataclass(frozen=True)
class Backend:
    """A tool and its config, by name, and the packages it needs beyond the light core."""

    module: str
    tool: str
    config: str
    extra: str = ""

    def config_class(self) -> type[BaseModel]:
        """The typed settings of this backend."""
        return cast(type[BaseModel], getattr(import_module(self.module), self.config))

    def build(self, config: BaseModel) -> Any:
        """The tool itself, its weights loaded."""
        return getattr(import_module(self.module), self.tool)(config)


BACKENDS: Mapping[str, Mapping[str, Backend]] = {
    "captioner": {
        "chat": Backend("tools.captioner", "ChatCaptioner", "CaptionerConfig", extra="llm"),
        "blip2": Backend("tools.captioner_blip2", "Blip2Captioner", "Blip2CaptionerConfig"),
        "recorded": Backend("tools.captioner_recorded", "RecordedCaptioner", "RecordedCaptionerConfig"),
    },
    "examples": {"annotated": Backend("tools.examples", "AnnotatedExamples", "ExamplesConfig")},
    "knowledge": {
        "chat": Backend("tools.knowledge", "ChatKnowledge", "KnowledgeConfig", extra="llm"),
        "plim": Backend("tools.knowledge_plim", "PlimKnowledge", "PlimKnowledgeConfig", extra="llm"),
    },
    "tagger": {"dual": Backend("tools.tagger", "DualTagger", "TaggerConfig")},
    "reranker": {
        "llava": Backend("tools.reranker_llava", "LlavaReranker", "LlavaRerankerConfig", extra="gpu"),
        "text": Backend("tools.reranker_text", "TextReranker", "TextRerankerConfig", extra="gpu"),
        "blip2": Backend("tools.reranker_blip2", "Blip2Reranker", "Blip2RerankerConfig", extra="gpu"),
        "chat": Backend("tools.reranker_chat", "ChatReranker", "ChatRerankerConfig", extra="llm"),
    },
    "matcher": {
        "starter": Backend("tools.matcher", "StarterMatcher", "MatcherConfig"),
        "blip": Backend("tools.matcher_blip", "BlipMatcher", "BlipMatcherConfig"),
        "blip2": Backend("tools.matcher_blip2", "Blip2Matcher", "Blip2MatcherConfig"),
        "llava": Backend("tools.matcher_llava", "LlavaMatcher", "LlavaMatcherConfig", extra="gpu"),
    },
    "tracer": {
        "region": Backend("tools.tracer", "RegionTracer", "TracerConfig"),
        "blip": Backend("tools.tracer_blip", "BlipTracer", "BlipTracerConfig"),
        "blip2": Backend("tools.matcher_blip2", "Blip2Tracer", "Blip2TracerConfig"),
        "llava": Backend("tools.matcher_llava", "LlavaTracer", "LlavaTracerConfig", extra="gpu"),
    },
    "describer": {
        "chat": Backend("tools.captioner", "ChatDescriber", "DescriberConfig", extra="llm"),
        "recorded": Backend("tools.captioner_recorded", "RecordedDescriber", "RecordedCaptionerConfig"),
    },
    "expansion": {
        "chat": Backend("tools.expansion", "ChatExpansion", "ExpansionConfig", extra="llm"),
        "recorded": Backend("tools.expansion_recorded", "RecordedExpansion", "RecordedExpansionConfig"),
    },
    "entailment": {
        "ofa": Backend("tools.entailment_ofa", "OfaEntailment", "OfaEntailmentConfig"),
        "albef": Backend("tools.entailment_albef", "AlbefEntailment", "AlbefEntailmentConfig"),
        "blip": Backend("tools.entailment_blip", "BlipEntailment", "BlipEntailmentConfig"),
        "chat": Backend("tools.entailment_chat", "ChatEntailment", "ChatEntailmentConfig", extra="llm"),
    },
    "grounder": {
        "ofa": Backend("tools.grounder_ofa", "OfaGrounder", "OfaGrounderConfig"),
        "seqtr": Backend("tools.grounder_seqtr", "SeqtrGrounder", "SeqtrGrounderConfig"),
        "sam3": Backend("tools.grounder_sam3", "Sam3Grounder", "Sam3GrounderConfig"),
        "mmgdino": Backend("tools.grounder_mmgdino", "MmGroundingDinoGrounder", "MmGroundingDinoConfig", extra="gpu"),
        "florence2": Backend("tools.grounder_florence2", "Florence2Grounder", "Florence2Config"),
        "chat": Backend("tools.grounder_chat", "ChatGrounder", "ChatGrounderConfig", extra="llm"),
    },
    "segmenter": {
        "grabcut": Backend("tools.segmenter", "GrabCutSegmenter", "SegmenterConfig"),
        "sam": Backend("tools.segmenter_sam", "SamSegmenter", "SamSegmenterConfig"),
        "sam2": Backend("tools.segmenter_sam2", "Sam2Segmenter", "Sam2SegmenterConfig"),
        "sam3": Backend("tools.segmenter_sam3", "Sam3Segmenter", "Sam3SegmenterConfig"),
        "seem": Backend("tools.segmenter_seem", "SeemSegmenter", "SeemSegmenterConfig"),
        "gem": Backend("tools.segmenter_gem", "GemSegmenter", "GemSegmenterConfig"),
    },
}
"""In the order of the graph. A role that is configured without naming its backend gets the first one."""
