"""Results in other forms: rows, frames, detections, pictures, pages and files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from namepin.agent.config.settings import ImageSettings
from namepin.agent.render.html import About
from namepin.agent.result import Result
from namepin.tools.errors import NamepinError
from namepin.tools.types import Entity, Extraction, ImageRef, Mask

TEXT = "Ada met Bob"
TABLE_COLUMNS = (
    "id text start end label fine_label type_uncertain score entropy groundable match_score x1 y1 x2 y2 evidence"
).split()


def entity(text: str, score: float, box: tuple[float, float, float, float] | None, mask: bool = True) -> Entity:
    start = TEXT.index(text)
    pixels = np.zeros((30, 40), bool)
    pixels[2:9, 3:8] = True
    return Entity(
        text=text,
        start=start,
        end=start + len(text),
        token_span=(0, 1) if start == 0 else (2, 3),
        label="PER",
        fine_label="musician",
        scores={"musician": score},
        groundable=box is not None,
        match_score=0.75,
        box=box,
        mask=Mask.from_array(pixels) if box and mask else None,
    )


def extraction(*entities: Entity, image: ImageRef | None = None) -> Extraction:
    return Extraction(
        id="p/1", text=TEXT, tokens=tuple(TEXT.split()), image=image, entities=entities, fingerprint="f" * 64
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "white").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def result(photo: Path) -> Result:
    both = extraction(
        entity("Ada", 0.9, (3, 2, 8, 9)), entity("Bob", 0.4, None), image=ImageRef(sha256="0" * 64, width=40, height=30)
    )
    return Result.of(both, photo, ImageSettings(), About("starter", 0.5))


def test_result_equals_its_extraction_and_its_json(result: Result) -> None:
    plain = Extraction.model_validate(result.to_dict())
    assert result == plain and plain == result
    assert result.to_json() == plain.to_json()
    assert json.loads(json.dumps(result.to_dict())) == json.loads(result.to_json())
    assert result != result.above(0.5)


def test_result_repr_is_short_and_names_every_entity(result: Result) -> None:
    assert (
        str(result)
        == repr(result)
        == (
            "<Result 'p/1' ok, entities: [<Entity 'Ada' PER musician, in the picture>, "
            "<Entity 'Bob' PER musician, not in the picture>]>"
        )
    )
    assert repr(result.entities[0].mask) == "<Mask 40x30>"


def test_result_rows_are_flat_and_have_equal_keys(result: Result) -> None:
    ada, bob = result.to_rows()
    assert list(ada) == list(bob) == TABLE_COLUMNS
    assert (ada["x1"], ada["y2"], ada["score"]) == (3, 9, 0.9) and bob["x1"] is None


def test_result_frame_without_entities_keeps_its_columns(result: Result) -> None:
    pytest.importorskip("pandas")
    assert list(result.to_pandas()["text"]) == ["Ada", "Bob"]
    empty = Result.of(extraction(), None, ImageSettings(), About("starter")).to_pandas()
    assert list(empty.columns) == TABLE_COLUMNS and len(empty) == 0


def test_result_detections_contain_entities_with_box_only(result: Result) -> None:
    pytest.importorskip("supervision")
    found = result.to_detections()
    assert found.xyxy.tolist() == [[3, 2, 8, 9]] and found.confidence.tolist() == [0.75]
    assert found.mask.shape == (1, 30, 40) and found.mask.sum() == 35
    assert found["text"].tolist() == ["Ada"] and found["class_name"].tolist() == ["PER"]
    unmasked = extraction(entity("Ada", 0.9, (3, 2, 8, 9)), entity("Bob", 0.9, (9, 2, 12, 9), mask=False))
    assert Result.of(unmasked, None, ImageSettings(), About("")).to_detections().mask is None
    assert len(Result.of(extraction(), None, ImageSettings(), About("")).to_detections()) == 0


def test_result_above_score_drops_less_probable_entities(result: Result) -> None:
    assert [e.text for e in result.above(0.5).entities] == ["Ada"]
    assert result.above(0.5).annotated().width >= 40, "the picture stays at hand"
    unscored = extraction(entity("Ada", 0.9, None).model_copy(update={"scores": {}}))
    assert len(Result.of(unscored, None, ImageSettings(), About("")).above(0.99).entities) == 1


@pytest.mark.parametrize("ending", ["png", "PNG", "html", "json"])
def test_result_save_writes_format_of_file_ending(result: Result, tmp_path: Path, ending: str) -> None:
    file = result.save(tmp_path / f"out.{ending}")
    data = file.read_bytes()
    assert data.startswith({"png": b"\x89PNG", "html": b"<!doctype html>", "json": b'{"id":"p/1"'}[ending.lower()])
    if ending == "html":
        assert b"data:image/jpeg;base64," in data


@pytest.mark.parametrize(("name", "code"), [("out.jpeg", "E111"), ("out", "E111"), ("no/folder/out.json", "E500")])
def test_result_save_to_unusable_path_raises_coded_error(result: Result, tmp_path: Path, name: str, code: str) -> None:
    with pytest.raises(NamepinError) as caught:
        result.save(tmp_path / name)
    assert caught.value.code == code


def test_result_without_picture_raises_e110_on_save(tmp_path: Path) -> None:
    bare = Result.of(extraction(entity("Ada", 0.9, None)), None, ImageSettings(), About("starter"))
    with pytest.raises(NamepinError, match="E111"):
        bare.save(tmp_path / "out.png")
    assert "Ada" in bare.page()


def test_result_with_deleted_picture_raises_e120(result: Result, photo: Path) -> None:
    photo.unlink()
    with pytest.raises(NamepinError, match="E120"):
        result.annotated()


def test_result_show_prints_table_and_opens_picture(
    result: Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(Image.Image, "show", lambda self, title: opened.append(title))
    result.show()
    assert opened == ["p/1"] and "Ada" in capsys.readouterr().out


def test_result_in_notebook_is_framed_page(result: Result) -> None:
    shown = result._repr_html_()
    assert shown.startswith('<iframe sandbox="allow-scripts" srcdoc="&lt;!doctype html&gt;')
    assert "<script" not in shown, "the document is escaped into the attribute"
