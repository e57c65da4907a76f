"""A scene's parts are sought only when somebody needs them, and once per picture."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.tools.interfaces import MatchRequest, Query
from namepin.tools.matcher.config import MatcherConfig
from namepin.tools.matcher.starter import StarterMatcher
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from namepin.tools.vision.config import SceneConfig
from namepin.tools.vision.scene import SceneReader
from support.capital_tagger import CapitalTagger
from support.waiting import PATIENCE_S

REF = ImageRef(sha256="a" * 64, width=40, height=30)


class Seeker:
    """Finds nothing, and counts."""

    def __init__(self) -> None:
        self.sought = 0

    def find(self, image: Image.Image) -> tuple[Any, ...]:
        self.sought += 1
        return ()

    read = find


@pytest.fixture
def reader() -> tuple[SceneReader, Seeker, Seeker]:
    made, faces, words = SceneReader(SceneConfig(keep=3)), Seeker(), Seeker()
    made.__dict__["_finder"], made.__dict__["_reader"] = faces, words
    return made, faces, words


def media() -> Media:
    return Media(images={REF.sha256: Image.new("RGB", (40, 30))})


def test_scene_reader_seeks_each_part_once_and_only_on_request(reader: tuple[SceneReader, Seeker, Seeker]) -> None:
    made, faces, words = reader
    for asked, sought in (
        ((False, False), (0, 0)),
        ((False, True), (0, 1)),
        ((True, True), (1, 1)),
        ((True, True), (1, 1)),
    ):
        scene = made.read(REF, media(), faces=asked[0], words=asked[1])
        assert (faces.sought, words.sought) == sought and scene.people == scene.lines == ()


def test_scene_reader_reads_two_pictures_at_a_time_but_one_picture_once(
    reader: tuple[SceneReader, Seeker, Seeker],
) -> None:
    made, _, words = reader
    meeting, find = threading.Barrier(2, timeout=PATIENCE_S), words.find

    def read_together(image: Image.Image) -> tuple[Any, ...]:
        meeting.wait()
        return find(image)

    words.read = read_together  # type: ignore[method-assign]
    other = REF.model_copy(update={"sha256": "b" * 64})
    both = Media(images={ref.sha256: Image.new("RGB", (40, 30)) for ref in (REF, other)})
    with ThreadPoolExecutor(4) as pool:
        scenes = list(pool.map(lambda ref: made.read(ref, both, faces=False), [REF, other, REF, other]))
    assert words.sought == 2 and len(scenes) == 4


@pytest.mark.parametrize(
    ("label", "category", "faces"), [("PER", "athlete", 1), ("LOC", "city", 0), ("PER", "animal", 0)]
)
def test_starter_matcher_seeks_faces_only_for_people(
    label: str, category: str, faces: int, reader: tuple[SceneReader, Seeker, Seeker]
) -> None:
    matcher = StarterMatcher(MatcherConfig())
    matcher._scenes = reader[0]
    query = Query(text="Ann", label=label, category=category)
    matcher.run([MatchRequest(image=REF, text="Ann", queries=(query,))], media())
    assert (reader[1].sought, reader[2].sought) == (faces, 1)


def test_load_warms_up_tools_that_can_be() -> None:
    from namepin.agent.config.settings import Settings
    from namepin.graphs.calls import LiveCalls

    class Cold(CapitalTagger):
        warmed = 0

        def warm(self) -> None:
            self.warmed += 1

    tagger = Cold()
    Namepin(Settings(profile="none"), LiveCalls({"tagger": tagger})).load()
    assert tagger.warmed == 1
