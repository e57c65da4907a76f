"""The registry of tools: role of the graph -> backend's name in a profile -> tool class and config class.

Tools are named instead of imported, because a tool's module imports its model's library, which takes seconds. Settings
are in the `config.py` beside it, which imports no such library, so that a mistake in a profile is reported at once.
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
    """A tool and its config, by name, and the extra with its packages.

    The config's class is in the module `config` of the tool's folder.
    """

    module: str
    tool: str
    config: str
    extra: str = ""

    def config_class(self) -> type[BaseModel]:
        """The typed settings of this backend."""
        folder = self.module.rpartition(".")[0]
        return cast(type[BaseModel], getattr(import_module(f"{folder}.config"), self.config))

    def build(self, config: BaseModel) -> Any:
        """The tool, with its weights loaded."""
        return getattr(import_module(self.module), self.tool)(config)


BACKENDS: Mapping[str, Mapping[str, Backend]] = {
    "captioner": {
        "chat": Backend("namepin.tools.captioner.chat", "ChatCaptioner", "CaptionerConfig", extra="llm"),
        "blip2": Backend("namepin.tools.captioner.blip2", "Blip2Captioner", "Blip2CaptionerConfig"),
        "recorded": Backend("namepin.tools.captioner.recorded", "RecordedCaptioner", "RecordedCaptionerConfig"),
    },
    "examples": {"annotated": Backend("namepin.tools.examples.annotated", "AnnotatedExamples", "ExamplesConfig")},
    "knowledge": {
        "starter": Backend(
            "namepin.tools.knowledge.starter", "StarterKnowledge", "StarterKnowledgeConfig", extra="llm"
        ),
        "chat": Backend("namepin.tools.knowledge.chat", "ChatKnowledge", "KnowledgeConfig", extra="llm"),
        "plim": Backend("namepin.tools.knowledge.plim", "PlimKnowledge", "PlimKnowledgeConfig", extra="llm"),
    },
    "tagger": {"dual": Backend("namepin.tools.tagger.dual", "DualTagger", "TaggerConfig")},
    "reranker": {
        "llava": Backend("namepin.tools.reranker.llava", "LlavaReranker", "LlavaRerankerConfig", extra="gpu"),
        "text": Backend("namepin.tools.reranker.text", "TextReranker", "TextRerankerConfig", extra="gpu"),
        "blip2": Backend("namepin.tools.reranker.blip2", "Blip2Reranker", "Blip2RerankerConfig", extra="gpu"),
        "chat": Backend("namepin.tools.reranker.chat", "ChatReranker", "ChatRerankerConfig", extra="llm"),
    },
    "matcher": {
        "starter": Backend("namepin.tools.matcher.starter", "StarterMatcher", "MatcherConfig"),
        "owlv2": Backend("namepin.tools.matcher.owlv2", "Owlv2Matcher", "Owlv2MatcherConfig"),
        "blip": Backend("namepin.tools.matcher.blip", "BlipMatcher", "BlipMatcherConfig"),
        "blip2": Backend("namepin.tools.matcher.blip2", "Blip2Matcher", "Blip2MatcherConfig"),
        "llava": Backend("namepin.tools.matcher.llava", "LlavaMatcher", "LlavaMatcherConfig", extra="gpu"),
    },
    "tracer": {
        "region": Backend("namepin.tools.tracer.region", "RegionTracer", "TracerConfig"),
        "blip": Backend("namepin.tools.tracer.blip", "BlipTracer", "BlipTracerConfig"),
        "blip2": Backend("namepin.tools.matcher.blip2", "Blip2Tracer", "Blip2TracerConfig"),
        "llava": Backend("namepin.tools.matcher.llava", "LlavaTracer", "LlavaTracerConfig", extra="gpu"),
    },
    "describer": {
        "chat": Backend("namepin.tools.captioner.chat", "ChatDescriber", "DescriberConfig", extra="llm"),
        "recorded": Backend("namepin.tools.captioner.recorded", "RecordedDescriber", "RecordedCaptionerConfig"),
    },
    "expansion": {
        "chat": Backend("namepin.tools.expansion.chat", "ChatExpansion", "ExpansionConfig", extra="llm"),
        "recorded": Backend("namepin.tools.expansion.recorded", "RecordedExpansion", "RecordedExpansionConfig"),
    },
    "entailment": {
        "ofa": Backend("namepin.tools.entailment.ofa", "OfaEntailment", "OfaEntailmentConfig"),
        "albef": Backend("namepin.tools.entailment.albef", "AlbefEntailment", "AlbefEntailmentConfig"),
        "blip": Backend("namepin.tools.entailment.blip", "BlipEntailment", "BlipEntailmentConfig"),
        "chat": Backend("namepin.tools.entailment.chat", "ChatEntailment", "ChatEntailmentConfig", extra="llm"),
        "chat_post": Backend(
            "namepin.tools.entailment.chat_post", "ChatPostEntailment", "ChatPostEntailmentConfig", extra="llm"
        ),
    },
    "grounder": {
        "ofa": Backend("namepin.tools.grounder.ofa", "OfaGrounder", "OfaGrounderConfig"),
        "seqtr": Backend("namepin.tools.grounder.seqtr", "SeqtrGrounder", "SeqtrGrounderConfig"),
        "sam3": Backend("namepin.tools.grounder.sam3", "Sam3Grounder", "Sam3GrounderConfig"),
        "mmgdino": Backend(
            "namepin.tools.grounder.mmgdino", "MmGroundingDinoGrounder", "MmGroundingDinoConfig", extra="gpu"
        ),
        "detector": Backend("namepin.tools.grounder.detector", "DetectorGrounder", "DetectorGrounderConfig"),
        "florence2": Backend("namepin.tools.grounder.florence2", "Florence2Grounder", "Florence2Config"),
        "chat": Backend("namepin.tools.grounder.chat", "ChatGrounder", "ChatGrounderConfig", extra="llm"),
        "chat_post": Backend(
            "namepin.tools.grounder.chat_post", "ChatPostGrounder", "ChatPostGrounderConfig", extra="llm"
        ),
    },
    "extractor": {
        "chat": Backend("namepin.tools.extractor.chat", "ChatExtractor", "ChatExtractorConfig", extra="llm"),
        "local": Backend("namepin.tools.extractor.local", "LocalExtractor", "LocalExtractorConfig", extra="gpu"),
        "recorded": Backend("namepin.tools.extractor.recorded", "RecordedExtractor", "RecordedExtractorConfig"),
    },
    "segmenter": {
        "grabcut": Backend("namepin.tools.segmenter.grabcut", "GrabCutSegmenter", "SegmenterConfig"),
        "sam": Backend("namepin.tools.segmenter.sam", "SamSegmenter", "SamSegmenterConfig"),
        "sam2": Backend("namepin.tools.segmenter.sam2", "Sam2Segmenter", "Sam2SegmenterConfig"),
        "starter_sam2": Backend("namepin.tools.segmenter.starter_sam2", "StarterSam2Segmenter", "StarterSam2Config"),
        "sam3": Backend("namepin.tools.segmenter.sam3", "Sam3Segmenter", "Sam3SegmenterConfig"),
        "seem": Backend("namepin.tools.segmenter.seem", "SeemSegmenter", "SeemSegmenterConfig"),
        "gem": Backend("namepin.tools.segmenter.gem", "GemSegmenter", "GemSegmenterConfig"),
    },
}
"""Backends in the order of the graph. A role that is configured without a backend's name gets the first one."""
