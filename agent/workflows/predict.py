"""A profile's predictions for a data set's posts, with the knowledge that the evaluation chooses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from namepin.agent.api import Namepin
from namepin.agent.config.build import batched_calls, build_tools, policy
from namepin.agent.config.settings import Settings
from namepin.agent.render.saved_results import read_saved
from namepin.evals.datasets.gold import Dataset
from namepin.evals.run import Predict, predict_all
from namepin.evals.scoring.predictions import Predictions
from namepin.graphs.calls import Calls, LiveCalls
from namepin.graphs.context import Context
from namepin.graphs.roles import EXAMPLES, KNOWLEDGE
from namepin.tools.errors import NamepinError
from namepin.tools.knowledge.chat import RecordedKnowledge
from namepin.tools.media import Media
from namepin.tools.types import Extraction, Frozen, Post

KnowledgeSource = Literal["off", "recorded", "live"]
Through = Callable[[Dataset, Predict, Callable[[Extraction], None] | None], Predictions]


def evaluated_pin(settings: Settings, knowledge: KnowledgeSource, recorded: Mapping[str, str]) -> Namepin:
    """The profile's `Namepin` with its knowledge tool left out, replaced by recorded knowledge, or as configured.

    Args:
        settings: the profile.
        knowledge: source of the auxiliary knowledge.
        recorded: post text -> knowledge, for "recorded".

    Raises:
        NamepinError: any error of a tool that cannot start.
    """
    if knowledge == "live":
        return Namepin(settings)
    replaced = {KNOWLEDGE.name, EXAMPLES.name}  # only the knowledge tool's prompt uses examples
    others = {role: tool for role, tool in settings.tools.items() if role not in replaced}
    settings = settings.model_copy(update={"tools": others, "requested": settings.requested - replaced})
    if knowledge == "off":
        return Namepin(settings)
    return Namepin(settings, LiveCalls({**build_tools(settings), KNOWLEDGE.name: RecordedKnowledge(recorded)}))


class CountedCalls:
    """Passes calls on and adds up the tokens that models report with their answers.

    Attributes:
        tokens: tool -> (prompt, completion) tokens so far; a tool that reports none is absent.
    """

    def __init__(self, inner: Calls) -> None:
        self.inner = inner
        self.tokens: dict[str, tuple[int, int]] = {}

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of the tools."""
        return self.inner.fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`."""
        answer = await self.inner.call(tool, request, media)
        prompt, completion = (getattr(answer, f"{kind}_tokens", None) for kind in ("prompt", "completion"))
        if prompt is not None or completion is not None:
            before = self.tokens.get(tool, (0, 0))
            self.tokens[tool] = before[0] + (prompt or 0), before[1] + (completion or 0)
        return answer


def predict_with(
    pin: Namepin,
    dataset: Dataset,
    done: Callable[[Extraction], None] | None = None,
    saved: Path | None = None,
    through: Through = predict_all,
) -> Predictions:
    """The profile's predictions for every post.

    Args:
        pin: the profile.
        dataset: the posts.
        done: called after each post.
        saved: JSONL file that gets every result at once. Its earlier results with the same text and fingerprint are
            reused, so that an interrupted run can continue; failed results are not reused.
        through: the function that runs the posts: `predict_all`, or LangSmith's `Experiment.predict`.

    Raises:
        NamepinError: E500 when `saved` cannot be written; any error of a tool that cannot start.
    """
    calls = pin.calls  # a tool that cannot start fails here, before the run begins
    batched = batched_calls(pin.settings, calls.tools) if isinstance(calls, LiveCalls) else None
    try:
        return _predict(pin, CountedCalls(batched or calls), dataset, done, saved, through)
    finally:
        if batched:
            batched.close()


def _predict(
    pin: Namepin,
    counted: CountedCalls,
    dataset: Dataset,
    done: Callable[[Extraction], None] | None,
    saved: Path | None,
    through: Through,
) -> Predictions:
    """As `predict_with`, with calls for many posts."""
    present = pin.settings.match.unknown == "present"
    pin = Namepin(pin.settings, counted, tags=[f"dataset:{dataset.name}", f"split:{dataset.split}"])
    if saved is None:
        return replace(through(dataset, pin.batch, done).read_unknown_as(present), tool_tokens=counted.tokens)
    fingerprint = Context(pin.calls, policy=policy(pin.settings)).fingerprint(pin.graph.name)
    saved_results = {e.id: e for e in read_saved(saved) if e.fingerprint == fingerprint and e.status != "failed"}

    def resumed(posts: Sequence[Post]) -> Iterator[Extraction]:
        try:
            with saved.open("a", encoding="utf-8") as file:
                before = [_result_of(post, saved_results) for post in posts]
                fresh = pin.batch([post for post, found in zip(posts, before, strict=True) if found is None])
                for found in before:
                    if found is None:
                        found = next(fresh)
                        file.write(found.to_json() + "\n")
                        file.flush()
                    yield found
        except OSError as error:
            raise NamepinError("E500", f"cannot write {str(saved)!r}: {error.strerror}") from error

    return replace(through(dataset, resumed, done).read_unknown_as(present), tool_tokens=counted.tokens)


def _result_of(post: Post, saved: Mapping[str, Extraction]) -> Extraction | None:
    """The saved result of a post with these tokens."""
    found = saved.get(post.id)
    return found if found and found.tokens == post.tokens else None
