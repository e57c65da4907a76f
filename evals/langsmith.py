"""A data set in LangSmith: posts as examples, the graph as target, our scorers as evaluators.

It sends texts, gold, results and the graph's steps, and, only on request, pictures as attachments. It never sends keys,
folders of this machine, or the author of the last commit.
"""

import os
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import requests
from langsmith import Client, schemas, tracing_context
from langsmith.evaluation import EvaluationResult, EvaluationResults
from langsmith.utils import LangSmithError
from PIL import Image

from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.evals.datasets.rows import row_of
from namepin.evals.report.full import score_of
from namepin.evals.run import Predict
from namepin.evals.scoring.evaluate import TASKS, Score, evaluate
from namepin.evals.scoring.predictions import Predictions, check, from_extractions
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.redaction import Scrubber, without_credentials
from namepin.tools.types import Extraction

Upload = Literal["nothing", "texts", "images"]
PICTURE = "picture"
"""The attachment's name."""

KEY, ADDRESS = "LANGSMITH_API_KEY", "LANGSMITH_ENDPOINT"


@dataclass(frozen=True)
class Experiment:
    """Where and how a run is evaluated in LangSmith.

    Attributes:
        name: the LangSmith data set. It is created if missing, and missing posts are added.
        upload: the data that may leave this machine. With "nothing" the same evaluators run locally, without any
            request.
        protocol: see `namepin eval --protocol`.
        iou: see `namepin eval --iou`.
    """

    name: str
    upload: Upload = "texts"
    protocol: str = "canonical"
    iou: float = 0.5

    def predict(
        self, dataset: Dataset, predict: Predict, done: Callable[[Extraction], None] | None = None
    ) -> Predictions:
        """Run every post through the graph under `Client.evaluate`; otherwise as `namepin.evals.run.predict_all`.

        Raises:
            NamepinError: E320 without a key, E321 when LangSmith cannot be reached or refuses, E322 when its data set
                of this name holds other data; and any error of `predict`.
        """
        posts = {gold.post.id: gold for gold in dataset.posts}
        found: dict[str, Extraction] = {}
        broken: list[Exception] = []

        def namepin(inputs: dict[str, Any]) -> dict[str, Any]:
            try:
                # Local evaluation keeps LangSmith's runs here, but not LangGraph's.
                with tracing_context(enabled=False) if self.upload == "nothing" else nullcontext():
                    (extraction,) = predict([posts[inputs["id"]].post])
            except Exception as error:  # LangSmith would continue with the next post
                broken.append(error)
                raise
            found[extraction.id] = extraction
            if done:
                done(extraction)
            return extraction.model_dump(mode="json", exclude={"extra"})

        client = _client(self.upload, dataset)
        with _coded_errors(), redirect_stdout(sys.stderr), warnings.catch_warnings():
            # LangSmith's own warnings: parameters in beta, and a deprecated argument that it passes itself.
            warnings.filterwarnings("ignore", "'upload_(results|runs)' parameter is in beta")
            warnings.filterwarnings("ignore", "The following arguments are no longer used in the create_feedback")
            examples = self._examples(client, dataset)
            results = client.evaluate(
                namepin,
                data=examples,
                evaluators=[self.post_scores(posts, dataset)],
                summary_evaluators=[self.corpus_scores(dataset)],
                experiment_prefix=self.name,
                metadata={"dataset": dataset.title, "protocol": self.protocol, "iou": self.iou},
                upload_results=self.upload != "nothing",
            )
            for _ in results:  # raises the error that ended the run
                pass
            client.flush()
        if broken:
            raise broken[0]
        return from_extractions((found[gold.post.id] for gold in dataset.posts), dataset)

    def post_scores(self, posts: Mapping[str, GoldPost], dataset: Dataset) -> Callable[..., EvaluationResults]:
        """The evaluator of one post: F1 of every task that its predictions answer.

        LangSmith shows the mean of these over the posts. The F1 of the papers is in the summary.
        """

        def post_scores(run: schemas.Run, example: schemas.Example) -> EvaluationResults:
            one = replace(dataset, posts=(posts[(example.inputs or {})["id"]],))
            outputs = run.outputs or {}
            scores = self._scores(one, [outputs] if outputs else [])
            # Without an entity, the tasks that the profile answers are unknown.
            spoken = scores if outputs.get("entities") else {"span": scores["span"]}
            return _feedback({task: score for task, score in spoken.items() if score.predicted + score.gold})

        return post_scores

    def corpus_scores(
        self, dataset: Dataset
    ) -> Callable[[list[schemas.Run], list[schemas.Example]], EvaluationResults]:
        """The summary evaluator: micro F1 of every task, the number that `namepin eval` prints."""

        def corpus_scores(runs: list[schemas.Run], examples: list[schemas.Example]) -> EvaluationResults:
            return _feedback(self._scores(dataset, [run.outputs for run in runs if run.outputs]))

        return corpus_scores

    def _scores(self, dataset: Dataset, rows: Sequence[Mapping[str, Any]]) -> dict[str, Score]:
        found = check([(f"post {row['id']}", row) for row in rows], dataset)
        report = evaluate(dataset, found, protocol=self.protocol, iou=self.iou)
        return {task: score for task in TASKS if (score := score_of(report, task))}

    def _examples(self, client: Client, dataset: Dataset) -> list[schemas.Example]:
        """The data set's posts in LangSmith, after uploading the missing ones."""
        rows = {gold.post.id: _example(gold) for gold in dataset.posts}
        if self.upload == "nothing":
            home = uuid.uuid5(uuid.NAMESPACE_URL, self.name)
            return [
                schemas.Example(id=uuid.uuid5(home, post_id), dataset_id=home, created_at=datetime.now(UTC), **row)
                for post_id, row in rows.items()
            ]
        if client.has_dataset(dataset_name=self.name):
            target = client.read_dataset(dataset_name=self.name)
        else:
            target = client.create_dataset(self.name, description=dataset.title)
        there = {(e.inputs or {}).get("id"): e for e in client.list_examples(dataset_id=target.id)}
        images = self.upload == "images"
        lacking = []
        for gold in dataset.posts:
            row, known = rows[gold.post.id], there.get(gold.post.id)
            if known is None:
                picture = _attachment(gold.post.image) if images else None
                lacking.append(
                    {
                        "inputs": row["inputs"],
                        "reference_outputs": row["outputs"],
                        "attachments": {PICTURE: picture} if picture else None,
                        "metadata": {PICTURE: picture is not None},
                        "split": dataset.split,
                    }
                )
            elif (known.inputs, known.outputs) != (row["inputs"], row["outputs"]):
                raise self._differs(f"post {gold.post.id!r} has another text or gold there")
            elif images and not (known.metadata or {}).get(PICTURE) and _attachment(gold.post.image):
                raise self._differs(f"post {gold.post.id!r} was uploaded without its picture")
        if lacking:
            client.create_examples(dataset_id=target.id, examples=lacking)
            there = {(e.inputs or {}).get("id"): e for e in client.list_examples(dataset_id=target.id)}
        missing = [post_id for post_id in rows if post_id not in there]
        if missing:
            raise NamepinError("E321", f"LangSmith did not keep {len(missing)} examples, such as {missing[0]!r}")
        return [there[post_id] for post_id in rows]

    def _differs(self, what: str) -> NamepinError:
        return NamepinError("E322", what, where=f"LangSmith data set {self.name}", mend="choose another name")


def _feedback(scores: Mapping[str, Score]) -> EvaluationResults:
    return EvaluationResults(
        results=[
            EvaluationResult(
                key=f"{task}.f1",
                score=score.f1,
                comment=f"{score.correct} right of {score.predicted} predicted, {score.gold} gold",
            )
            for task, score in scores.items()
        ]
    )


def _example(gold: GoldPost) -> dict[str, Any]:
    """A post as inputs and outputs, without the path of its picture."""
    row = row_of(gold)
    entities = [{"text": row["text"][e["start"] : e["end"]], **e} for e in row["entities"]]
    return {
        "inputs": {key: row[key] for key in ("id", "text", "tokens") if key in row},
        "outputs": {"entities": entities},
    }


def _attachment(image: str | None) -> tuple[str, bytes] | None:
    """Media type and bytes of a picture, where the file exists and is a picture."""
    try:
        with Image.open(image or "") as opened:
            media_type = opened.get_format_mimetype()
        return (media_type, Path(image or "").read_bytes()) if media_type else None
    except (OSError, Image.DecompressionBombError):
        return None


class _Client(Client):
    """LangSmith's client, limited to the commit in its notes on the git checkout, which also hold author and remote."""

    def create_project(self, *args: Any, **kwargs: Any) -> schemas.TracerSession:
        return super().create_project(*args, **_without_author(kwargs))

    def update_project(self, *args: Any, **kwargs: Any) -> schemas.TracerSession:
        return super().update_project(*args, **_without_author(kwargs))


def _without_author(kwargs: dict[str, Any]) -> dict[str, Any]:
    metadata = dict(kwargs.get("metadata") or {})
    git = metadata.pop("git", None) or {}
    return {**kwargs, "metadata": {**metadata, "commit": git.get("commit"), "dirty": git.get("dirty")}}


def _client(upload: Upload, dataset: Dataset) -> Client:
    """A client that can send nothing, or one with the user's key."""
    if upload == "nothing":
        return Client(api_url="http://localhost", api_key="", auto_batch_tracing=False, info={})
    key = os.environ.get(KEY)
    if not key:
        raise NamepinError("E320", f"{KEY} is not set", mend="set it, or use `--upload nothing`")
    folders = {str(Path(gold.post.image).parent) for gold in dataset.posts if gold.post.image}
    folders |= {
        str(Path.home()),
        str(Path.cwd()),
        sys.prefix,
        sys.base_prefix,
        str(Path(__file__).resolve().parents[1]),
    }
    return _Client(os.environ.get(ADDRESS), api_key=key, anonymizer=Scrubber.of_this_process(folders))


@contextmanager
def _coded_errors() -> Iterator[None]:
    """Turn LangSmith's errors into E321."""
    try:
        yield
    except (LangSmithError, requests.RequestException) as error:
        raise NamepinError(
            "E321",
            f"LangSmith cannot be used: {without_credentials(str(error))}",
            mend=f"check {KEY}, {ADDRESS} and the network",
            exit_code=Exit.UNREACHABLE,
        ) from error
