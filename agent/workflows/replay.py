"""Replays a cassette, with tools and pictures for its missing calls."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

from namepin.agent.config.build import build_tool
from namepin.agent.config.layers import from_assignments
from namepin.agent.config.sections import TracingSettings
from namepin.agent.config.settings import load_settings
from namepin.graphs.recording.cassette import Cassette, check_cassette
from namepin.graphs.recording.overrides import Overrides
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.media import Media
from namepin.tools.types import Extraction, ImageRef, Post


def replay_cassette(
    directory: Path, *, check: bool, assignments: Sequence[str], fill: bool, images: Path | None
) -> Iterator[Extraction]:
    """Run the recorded posts through the graph again.

    Args:
        directory: the cassette.
        check: raise at the first difference.
        assignments: `--set` flags for a what-if.
        fill: build the recorded profile's tools for missing calls, make the calls, and record them.
        images: the folder of the posts' pictures, for calls that need pixels.

    Raises:
        NamepinError: E40x, as `namepin.graphs.recording.replay.replay`; E20x for an unknown setting.
    """
    check_cassette(directory)
    sets = {key: value.value for key, value in from_assignments(assignments).items()}
    Overrides.of(sets)  # reports a wrong setting before the graph is imported
    with _without_tracing():
        if not fill:
            from namepin.graphs.recording.replay import replay

            yield from replay(directory, check=check, sets=sets)
        else:
            yield from _fill(directory, sets, check=check, assignments=assignments, images=images)


def _without_tracing() -> AbstractContextManager[None]:
    """Switch LangSmith off: LangGraph itself would send the recorded values unredacted."""
    from namepin.agent.tracing.runs import is_traced

    if not is_traced(TracingSettings()):
        return nullcontext()
    from langsmith import tracing_context

    return cast(AbstractContextManager[None], tracing_context(enabled=False))


def _fill(
    directory: Path, sets: Mapping[str, Any], *, check: bool, assignments: Sequence[str], images: Path | None
) -> Iterator[Extraction]:
    """A replay that makes the calls missing from the cassette."""
    from namepin.graphs.recording.replay import replay

    recorded = [setup.profile for setup in Cassette.load(directory).setups.values()]
    if len(recorded) != 1:
        what = f"the cassette was recorded with {len(recorded)} profiles, and --fill needs one"
        raise NamepinError("E407", what, where=str(directory), mend="record the posts of each profile separately")
    settings = load_settings(base=recorded[0], assignments=assignments)

    def tool(role: str) -> Any:
        return build_tool(role, settings.tools[role])

    def media(post: Post, ref: ImageRef) -> Media:
        return Media(images={ref.sha256: _picture(post, ref, images)})

    yield from replay(directory, check=check, sets=sets, tools=tool, media=media)


def _picture(post: Post, ref: ImageRef, folder: Path | None) -> Any:
    if folder is None or post.image is None:
        raise NamepinError("E406", "the picture is needed", where=f"post {post.id!r}", mend="add --images DIR")
    loaded = load_image(folder / post.image)
    if loaded.ref != ref:
        mend = "give the folder with the recorded pictures"
        raise NamepinError("E406", "this is not the recorded picture", where=str(folder / post.image), mend=mend)
    return loaded.image
