"""Settings of the extractor's recipes: supervised tuning, then GRPO."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from namepin.finetune.loop.settings import Clip, Jitter, Positive, Rate, RunSettings, Share

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class ExtractorTraining(RunSettings):
    """LoRA on a Qwen2.5-VL or Qwen3-VL that answers names, types and boxes of a post at once.

    Attributes:
        root: folder of the data set, with `images/` and `xml/`.
        dataset: its layout, as named by `namepin eval --dataset`.
        train: the split to train on.
        dev: the split that chooses the epoch.
        scheme: the types of the answers. `auto` takes the data set's finest: 51 where it has fine types, else 4.
        weights: the base model: a transformers folder or a name on the hub.
        start: adapter folder to start from, `out/weights` of an earlier run, whose rank and alpha then apply. Empty for
            a new adapter.
        rank: LoRA's rank.
        alpha: LoRA's scale.
        dropout: dropout of LoRA's input.
        lr: peak learning rate of AdamW.
        device: device of the base model.
        dtype: number type of the base model.
        quantization: `4bit` for QLoRA.
        frame: the unit of the answers' boxes. `auto` is pixels of the sent picture for Qwen2.5-VL, thousandths of its
            sides for Qwen3-VL.
        min_pixels: smallest number of pixels of a sent picture; a smaller picture is enlarged.
        max_pixels: largest number of pixels of a sent picture; a larger picture is reduced.
        longest: largest number of tokens of an answer.
        dev_posts: largest number of dev posts to score; drawn once.
    """

    out: str = "out/extractor"
    root: str
    dataset: str = "gmner"
    train: str = "train"
    dev: str = "dev"
    scheme: Literal["auto", "gmner4", "fmnerg51"] = "auto"
    weights: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    start: str = ""
    rank: Positive = 32
    alpha: Positive = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    lr: Rate = 5e-4
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    quantization: Literal["none", "8bit", "4bit"] = "none"
    frame: Literal["auto", "pixels", "thousand", "unit"] = "auto"
    min_pixels: Positive = 65_536
    max_pixels: Positive = 1_000_000
    longest: Positive = 512
    dev_posts: Positive = 200


@dataclass(frozen=True, kw_only=True)
class SftRecipe(ExtractorTraining):
    """Supervised tuning with E2E-GMNER's settings: LoRA r = 32, 5e-4, 10 epochs, batches of 2 x 8, perturbed boxes.

    Attributes:
        shift: beta of the boxes' perturbation: largest shift of a box's centre, as a share of its sides. 0 for none.
        scale: gamma of the boxes' perturbation: largest change of a box's sides, as a share of them. 0 for none.
        reasoning: JSONL of `{"id", "reasoning"}` for the training split, as `namepin data augment --reasoning` writes
            it. The answers of these posts begin with the thoughts. Empty for answers without thoughts.
        whole: train all weights instead of LoRA, for a model without pre-training. The result is a complete model.
    """

    stage: Literal["sft"] = "sft"
    epochs: Positive = 10
    batch_size: Positive = 16
    accumulate: Positive = 8
    weight_decay: Share = 0.1
    warmup: Share = 0.03
    patience: Positive = 10
    shift: Jitter = 0.1
    scale: Jitter = 0.1
    reasoning: str = ""
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class GrpoRecipe(ExtractorTraining):
    """GRPO from a supervised adapter (`start`), rewarded by the evaluator. The settings are ours.

    Attributes:
        batch_size: posts per step, over all processes; each has `answers` answers.
        answers: number of answers drawn for a post, whose rewards are compared.
        temperature: temperature of the drawn answers.
        beta: weight of the divergence from the start; 0 for none.
        reward_json: weight of an answer in exactly the asked form.
        reward_span: weight of the F1 of names.
        reward_type: weight of the F1 of names with their types.
        reward_groundability: weight of the F1 of names with the right answer to "in the picture".
        reward_iou: weight of the boxes' mean IoU.
        penalty_visual: weight of the share of absent names that got a box, as a penalty (the visual shortcut).
        penalty_textual: weight of the share of present names that got no box, as a penalty (the textual shortcut).
        vllm: generate with vLLM, in the same process (`colocate`) or by `trl vllm-serve` (`server`).
        vllm_url: address of that server.
        vllm_memory: share of the GPU's memory for vLLM in the same process.
    """

    stage: Literal["grpo"] = "grpo"
    lr: Rate = 1e-5
    batch_size: Positive = 8
    accumulate: Positive = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Share = 0.0
    clip: Clip = 0.2
    answers: Annotated[int, Field(ge=2)] = 8
    temperature: Clip = 1.0
    beta: Weight = 0.0
    reward_json: Weight = 0.5
    reward_span: Weight = 1.0
    reward_type: Weight = 1.0
    reward_groundability: Weight = 1.0
    reward_iou: Weight = 1.0
    penalty_visual: Weight = 0.5
    penalty_textual: Weight = 0.5
    vllm: Literal["none", "colocate", "server"] = "none"
    vllm_url: str = "http://127.0.0.1:8000"
    vllm_memory: Annotated[float, Field(gt=0, lt=1)] = 0.3


RECIPES = {"sft": SftRecipe, "grpo": GrpoRecipe}
"""The recipes by stage; the first is the default."""
