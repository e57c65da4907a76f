"""Settings of the reranker's recipes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from namepin.finetune.loop.settings import Count, Positive, Rate, Training


@dataclass(frozen=True, kw_only=True)
class RerankerTraining(Training):
    """GEM's settings (appendix): LoRA of rank 64, 5e-6, three epochs, K = 5; batches of 4 as for its tagger.

    Attributes:
        root: folder of the data set.
        dataset: its layout, as named by `namepin eval --dataset`; choose one with fine types.
        train: the split to train on.
        dev: the split that chooses the epoch.
        captions: JSONL of `{"id", "caption"}`, for a text-only model.
        weights: the base model: a transformers folder or a name on the hub.
        rank: LoRA's rank.
        alpha: LoRA's scale. 16 is LLaVA's default; the paper gives no value.
        dropout: dropout of LoRA's input.
        candidates: K, the number of candidate types.
        device: device of the base model.
        dtype: number type of the base model.
        quantization: `4bit` for QLoRA.
        dev_rows: largest number of dev mentions to score; drawn once.
        train_rows: largest number of training mentions per epoch, drawn anew in each; 0 for all.
        whole: train all weights instead of LoRA, for a model without pre-training. The result is a complete model.
    """

    out: str = "out/reranker"
    root: str
    dataset: str = "fmnerg"
    train: str = "train"
    dev: str = "dev"
    captions: str = ""
    lr: Rate = 5e-6
    epochs: Positive = 3
    weights: str
    rank: Positive = 64
    alpha: Positive = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    candidates: Annotated[int, Field(ge=3)] = 5
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    quantization: Literal["none", "8bit", "4bit"] = "none"
    dev_rows: Positive = 500
    train_rows: Count = 0
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class LlavaRecipe(RerankerTraining):
    """The paper's reranker; attributes as `RerankerTraining`."""

    backend: Literal["llava"] = "llava"
    weights: str = "llava-hf/llava-1.5-7b-hf"


@dataclass(frozen=True, kw_only=True)
class Blip2Recipe(RerankerTraining):
    """BLIP-2 as reranker (section 5.1); attributes as `RerankerTraining`."""

    backend: Literal["blip2"] = "blip2"
    weights: str = "Salesforce/blip2-opt-2.7b"


@dataclass(frozen=True, kw_only=True)
class TextRecipe(RerankerTraining):
    """A text model that reads the caption (section 5.1); attributes as `RerankerTraining`."""

    backend: Literal["text"] = "text"
    weights: str = "meta-llama/Meta-Llama-3-8B-Instruct"


RECIPES = {"llava": LlavaRecipe, "blip2": Blip2Recipe, "text": TextRecipe}
