import pytest
from PIL import Image, ImageDraw, ImageFont

from namepin.tools.images.load import LoadedImage, load_image
from namepin.tools.interfaces import Kind, Query, TraceQuery, TraceRequest, Traces
from namepin.tools.media import Media
from namepin.tools.tracer.config import TracerConfig
from namepin.tools.tracer.region import RegionTracer
from namepin.tools.types import Box, Point

QUERY = Query(text="Harbour Jazz", label="OTHER", category="festival")


@pytest.fixture(scope="module")
def poster(tmp_path_factory: pytest.TempPathFactory) -> LoadedImage:
    picture = Image.new("RGB", (300, 100), "white")
    ImageDraw.Draw(picture).text((20, 20), "Harbour", fill="black", font=ImageFont.load_default(32))
    ImageDraw.Draw(picture).text((180, 20), "Jazz", fill="black", font=ImageFont.load_default(32))
    file = tmp_path_factory.mktemp("poster") / "poster.png"
    picture.save(file)
    return load_image(file)


def traced(poster: LoadedImage, region: Box | None, kind: Kind | None) -> Traces:
    request = TraceRequest(image=poster.ref, queries=(TraceQuery(query=QUERY, region=region, kind=kind),))
    media = Media(images={poster.ref.sha256: poster.image})
    return RegionTracer(TracerConfig()).run([request], media)[0]


def peak(poster: LoadedImage, region: Box, kind: Kind) -> Point:
    point = traced(poster, region, kind).traces[0].peak
    assert point is not None
    return point


def test_region_tracer_of_face_returns_its_centre(poster: LoadedImage) -> None:
    assert peak(poster, (10, 20, 60, 70), "face") == (35, 45)


def test_region_tracer_of_text_returns_point_on_word(poster: LoadedImage) -> None:
    x, y = peak(poster, (15, 15, 260, 60), "text")
    assert 20 <= y <= 55 and (20 <= x <= 145 or 180 <= x <= 250)


def test_region_tracer_at_border_returns_point_inside(poster: LoadedImage) -> None:
    assert peak(poster, (298, 98, 303, 103), "object") == (299, 99)


def test_region_tracer_without_region_warns_w121(poster: LoadedImage) -> None:
    answer = traced(poster, None, None)
    assert answer.traces[0].peak is None
    assert [notice.code for notice in answer.notices] == ["W121"]
