"""The recording behind a sweep: a cassette of a data set's posts, filled by a profile's own tools."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namepin.agent.workflows.overlap import checked_overlap
from namepin.evals.datasets.gold import Dataset
from namepin.evals.overlap import Overlap
from namepin.evals.sweep import Point, Sweep, known_points, sweep
from namepin.graphs.calls import LiveCalls
from namepin.graphs.recording.cassette import Cassette
from namepin.graphs.recording.cassette_files import LINES, MANIFEST
from namepin.graphs.recording.overrides import Overrides
from namepin.graphs.recording.recorder import Recorder
from namepin.tools.base import digest, file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.media import Media
from namepin.tools.types import Extraction, ImageRef, Post

if TYPE_CHECKING:
    from namepin.agent.api import Namepin

SAVED_EVERY = 100
"""Number of posts between two saves of a cassette during recording; an interruption loses at most these."""

Done = Callable[[], None]


def check_policies(policies: Sequence[Mapping[str, Any]]) -> None:
    """Require that only the graph's settings vary, within their ranges. A tool's settings need another recording.

    Raises:
        NamepinError: E404.
    """
    mend = "sweep gate.*, match.*, expression.*, mask.*, protocol or iou"
    for policy in policies:
        try:
            overrides = Overrides.of(policy)
            overrides.policy_over({})
        except NamepinError as error:
            what = error.what.replace("a replay cannot set", "a sweep cannot vary")
            near = error.mend if error.mend.startswith("did you mean") else mend
            raise NamepinError(error.code, what, where="--over", mend=near) from None
        if overrides.changed or overrides.off:
            role = sorted(overrides.changed | overrides.off)[0]
            what = f"a sweep varies the graph's settings, and {role} is a tool"
            raise NamepinError("E404", what, where="--over", mend=mend)


def recorded_ids(directory: Path) -> set[str]:
    """The posts of a cassette; none if there is no cassette.

    Raises:
        NamepinError: E401 when it is damaged.
    """
    return set(Cassette.load(directory).posts) if (directory / MANIFEST).exists() else set()


def lacking(directory: Path, dataset: Dataset) -> int:
    """The number of the data set's posts that the cassette lacks."""
    return len({gold.post.id for gold in dataset.posts} - recorded_ids(directory))


def recorded_posts(directory: Path, dataset: Dataset) -> Dataset:
    """The posts of the data set that the cassette holds.

    Raises:
        NamepinError: E401 when it holds none of them, or is damaged.
    """
    both = recorded_ids(directory) & {gold.post.id for gold in dataset.posts}
    if not both:
        raise NamepinError("E401", "the cassette holds none of the posts", where=str(directory), mend="add --fill")
    return dataset.only(both)


def score_points(
    directory: Path,
    dataset: Dataset,
    points: Sequence[dict[str, str]],
    json: Path | None = None,
    done: Done = lambda: None,
    overlap: Overlap | None = None,
) -> list[Point]:
    """Replay the recorded posts under every point's settings, and score them.

    Args:
        directory: the cassette.
        dataset: its posts.
        points: the grid, as `namepin.evals.sweep.grid` makes it.
        json: file that is written after each point. Its earlier points of the same recording and posts are reused.
        done: called after each replayed post.
        overlap: the posts that the recorded weights were trained on; it marks the file.

    Raises:
        NamepinError: E40x, as `namepin.graphs.recording.replay.replay`.
    """
    source = digest([file_sha256(directory / LINES), dataset.sha256, sorted(gold.post.id for gold in dataset.posts)])
    known = known_points(json, source) if json else []
    found: list[Point] = []
    for point in sweep(dataset, points, replayed_from(directory, dataset, done), known):
        found.append(point)
        if json:
            mark = overlap.mark if overlap else ""
            title = ", ".join(part for part in (dataset.title, mark) if part)
            result = Sweep(source=source, dataset=title, points=found)
            json.write_text(result.model_dump_json(indent=1) + "\n", "utf-8")
    return found


def fill(
    directory: Path, dataset: Dataset, pin: "Namepin", policies: Sequence[Mapping[str, Any]], done: Done = lambda: None
) -> None:
    """Make and record every missing call that the policies need; an interrupted fill can continue.

    Args:
        directory: the cassette's folder; created if missing.
        dataset: the posts.
        pin: the profile whose tools answer.
        policies: overrides of the graph's settings.
        done: called after each recorded or replayed post.

    Raises:
        NamepinError: E405 when the cassette was recorded with other tools; E50x when it cannot be written.
    """
    from namepin.graphs.recording.replay import replay

    recorded = recorded_ids(directory)
    if recorded:
        _check_tools(directory, pin)
    missing = [gold.post for gold in dataset.posts if gold.post.id not in recorded]
    for first in range(0, len(missing), SAVED_EVERY):
        with Recorder(directory, graph=pin.graph.name, profile=pin.settings.dump()) as recorder:
            for post in missing[first : first + SAVED_EVERY]:
                for _ in pin.stream(post, recorder=recorder):
                    pass
                done()
    pictures = {gold.post.id: gold.post.image for gold in dataset.posts}

    def tool(role: str) -> Any:
        assert isinstance(pin.calls, LiveCalls)
        return pin.calls.tools[role]

    def media(post: Post, ref: ImageRef) -> Media:
        path = pictures.get(post.id)
        if path is None:
            raise NamepinError("E406", "the picture is needed", where=f"post {post.id!r}", mend="check --root")
        return Media(images={ref.sha256: load_image(path, max_pixels=pin.settings.images.max_pixels).image})

    for policy in policies:
        for _ in replay(directory, sets=policy, tools=tool, media=media):
            done()


def recorded_overlap(directory: Path, data: Dataset, *, allow: bool) -> Overlap:
    """The posts that the recorded profiles' weights were trained on; as `checked_overlap`.

    Raises:
        NamepinError: E141; E211 when a manifest is damaged, E401 when the cassette is.
    """
    profiles = {str(at): setup.profile for at, setup in enumerate(Cassette.load(directory).setups.values())}
    return checked_overlap(profiles, data, allow=allow)


def idle_axes(directory: Path, keys: Iterable[str]) -> list[str]:
    """The axes that change nothing, each with its role, which no recorded post had."""
    roles = {role for setup in Cassette.load(directory).setups.values() for role in setup.tools}
    gate = ("reranker", "extractor")
    needs = {"gate.gamma": gate, "gate.k": ("reranker",), "match.threshold": ("matcher",), "match.margin": gate[1:]}
    return [
        f"{key} changes nothing: no {' or '.join(needs[key])} was recorded"
        for key in keys
        if key in needs and not roles & set(needs[key])
    ]


def _check_tools(directory: Path, pin: "Namepin") -> None:
    """Require the tools that recorded the cassette, so that all its posts come from one system."""
    for setup in Cassette.load(directory).setups.values():
        if dict(setup.tools) != dict(pin.calls.fingerprints):
            roles = {*setup.tools, *pin.calls.fingerprints}
            other = sorted(role for role in roles if setup.tools.get(role) != pin.calls.fingerprints.get(role))
            mend = "give the recorded --profile, --knowledge and --set, or another folder"
            raise NamepinError(
                "E405", f"it was recorded with another {', '.join(other)}", where=str(directory), mend=mend
            )


def replayed_from(
    directory: Path, dataset: Dataset, done: Done = lambda: None
) -> Callable[[Mapping[str, Any]], Iterator[Extraction]]:
    """Replays of the data set's posts without tools: a call that was not recorded is an error."""
    from namepin.graphs.recording.replay import replay

    wanted = {gold.post.id for gold in dataset.posts}

    def run(policy: Mapping[str, Any]) -> Iterator[Extraction]:
        for extraction in replay(directory, sets=policy):
            done()
            if extraction.id in wanted:
                yield extraction

    return run
