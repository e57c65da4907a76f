"""Train the extractor: `namepin finetune extractor`. SFT by trl's `SFTTrainer`, then GRPO by its `GRPOTrainer`.

A row is a post: the tool's own prompt with the picture, and in SFT the gold answer, whose tokens alone have a loss. In
GRPO a post's answers are drawn, judged by the evaluator (`namepin.finetune.extractor.rewards`) and compared.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.utils.data import Sampler
from transformers import PrinterCallback
from trl import GRPOTrainer, SFTTrainer

from namepin.evals.datasets.gold import Dataset
from namepin.evals.overlap import TrainedPosts
from namepin.finetune.extractor.model import ExtractorModel
from namepin.finetune.extractor.quiet import quiet_checkpointing
from namepin.finetune.extractor.rewards import REWARDS, Judge, as_trl_reward
from namepin.finetune.extractor.rows import Examples, Questioner, read_posts, read_reasoning, scheme_of
from namepin.finetune.extractor.run import ExtractorRun
from namepin.finetune.extractor.score import score_answers, write_answers
from namepin.finetune.extractor.settings import grpo_settings, reward_weights, sft_settings
from namepin.finetune.loop.run_folder import ensure_writable
from namepin.finetune.loop.trackers import require_tracker
from namepin.finetune.recipes.extractor import ExtractorTraining, GrpoRecipe
from namepin.tools.loading.quiet import quiet_transformers

DEV_BATCH = 16
"""Dev posts that are answered at once."""


class ResumableGrpo(GRPOTrainer):  # type: ignore[misc]  # trl is untyped
    """A trainer whose order of an epoch does not depend on the epochs before it, so that a resumed run repeats it."""

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return EpochSampler(super()._get_train_sampler(dataset))


class EpochSampler(Sampler[int]):
    """A sampler of trl with an order per epoch."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch; transformers' trainer calls it."""
        self.sampler.generator.manual_seed(1_000_003 * self.sampler.seed + epoch)

    def __iter__(self) -> Iterator[int]:
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


class ExtractorTask:
    """A recipe's data, net and trainer."""

    def __init__(self, recipe: ExtractorTraining) -> None:
        """Load data and weights.

        Raises:
            NamepinError: E106, E120, E130 to E139 data; E203 a batch that cannot be shared; E210 to E219 weights;
                E301 a missing package.
        """
        require_tracker(recipe.report_to)
        train, dev = read_posts(recipe, recipe.train), read_posts(recipe, recipe.dev)
        train = replace(train, posts=train.posts[: recipe.limit or None])
        self.train, self.dev = train, _sample(dev, recipe)
        self.data = {f"{train.name} {recipe.train}": train.sha256, f"{dev.name} {recipe.dev}": dev.sha256}
        reasoning = read_reasoning(recipe, train, self.data)
        self.model = ExtractorModel(recipe)
        self.recipe = self.model.recipe
        self.scheme = scheme_of(recipe, train)
        shape = (self.model.unit, self.model.factor, recipe.min_pixels, recipe.max_pixels)
        self.ask = Questioner(self.scheme, train.scheme, *shape)
        self.examples = Examples(self.recipe, train.posts, self.ask, reasoning)
        trained = TrainedPosts.of((gold.post.id, gold.post.text) for gold in train.posts)
        state = PartialState(cpu=recipe.cpu)
        self.processes, self.process = state.num_processes, state.process_index
        self.run = ExtractorRun(self.model, self.examples, self.data, trained, self.score, state.is_main_process)

    def score(self) -> dict[str, float]:
        """The evaluator's scores of greedy answers on dev. Every process answers its share."""
        posts = self.dev.posts[self.process :: self.processes]
        answers = write_answers(self.model, self.ask, posts, self.recipe.longest, DEV_BATCH)
        together = gather_object([(gold.post.id, *answer) for gold, answer in zip(posts, answers, strict=True)])
        weights = reward_weights(self.recipe if isinstance(self.recipe, GrpoRecipe) else GrpoRecipe(root=""))
        given = {post: (answer, frame) for post, answer, frame in together}
        return score_answers(self.dev, self.scheme, given, weights)

    def trainer(self) -> Any:
        """The trainer of trl for the recipe."""
        numbers = datasets.Dataset.from_dict({"number": list(range(len(self.train.posts)))})
        common: dict[str, Any] = {
            "model": self.model.net,
            "train_dataset": numbers.with_transform(self.examples),
            "processing_class": self.model.processor,
            "callbacks": [self.run],
        }
        recipe = self.recipe
        trainer: Any
        with quiet_transformers(), quiet_checkpointing():
            if isinstance(recipe, GrpoRecipe):
                judge = Judge(self.train, self.scheme)
                rewards = [as_trl_reward(reward, judge) for reward in REWARDS]
                args = grpo_settings(recipe, self.processes, len(self.train.posts))
                trainer = ResumableGrpo(args=args, reward_funcs=rewards, **common)
            else:
                trainer = SFTTrainer(args=sft_settings(recipe, self.processes), **common)
                # trl divides the loss by the tokens of the whole batch, however it is shared. transformers counts them
                # only for classes that say so, which Qwen-VL's do not.
                trainer.model_accepts_loss_kwargs = True
        self.model.full_precision()
        trainer.remove_callback(PrinterCallback)  # `ExtractorRun` prints
        return trainer


def _sample(dev: Dataset, recipe: ExtractorTraining) -> Dataset:
    """The dev posts that are scored, drawn once."""
    if len(dev.posts) <= recipe.dev_posts:
        return dev
    return replace(dev, posts=tuple(random.Random(f"{recipe.seed}/dev").sample(dev.posts, recipe.dev_posts)))


def train(recipe: ExtractorTraining, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's adapter is then in `out/weights`.

    Raises:
        NamepinError: E205 a resume with other settings or data, E220 a loss that is not finite, E500 a full disk, and
            as `ExtractorTask`.
    """
    ensure_writable(Path(recipe.out))
    task = ExtractorTask(recipe)
    checkpoint = task.run.resume_from() if resume else None
    trainer = task.trainer()
    try:
        with quiet_transformers(), quiet_checkpointing():
            if not task.run.ended:
                trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        task.run.close()
    return task.run.report()
