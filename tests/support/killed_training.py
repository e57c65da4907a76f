"""Trainings for processes that are killed."""

import os
import signal
import time
from collections.abc import Mapping
from typing import Any


def slow_matcher(settings: Mapping[str, Any]) -> None:
    """Train a matcher whose every batch takes long enough for a kill."""
    from namepin.finetune.matcher import MatcherTask, train
    from namepin.finetune.recipes.matcher import MatcherRecipe

    collate = MatcherTask.collate

    def slow(self: MatcherTask, rows: Any) -> Any:
        time.sleep(0.3)
        return collate(self, rows)

    MatcherTask.collate = slow  # type: ignore[method-assign]
    train(MatcherRecipe(**settings))


def tagger_killed_at(last: int, settings: Mapping[str, Any]) -> None:
    """Train a tagger that kills itself in the step after `last`."""
    from namepin.finetune.loop.trainer import Run
    from namepin.finetune.recipes.tagger import TaggerRecipe
    from namepin.finetune.tagger.train import train

    step = Run._step

    def killed_at_its_end(self: Run, parts: Any) -> Any:
        if self.now.step == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, parts)

    Run._step = killed_at_its_end  # type: ignore[method-assign]
    train(TaggerRecipe(**settings))
