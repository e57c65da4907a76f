"""A detector's boxes scored by the matcher: any detector of transformers, or a file; Table II's command writes it."""

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from namepin.agent.cli.data import data
from namepin.evals.run import load_dataset
from namepin.evals.scoring.predictions import read_predictions
from namepin.tools.errors import NamepinError
from namepin.tools.grounder.config import DetectorConfig, DetectorGrounderConfig
from namepin.tools.grounder.detector import Detector, DetectorGrounder
from namepin.tools.interfaces import Match, Matches, MatchRequest
from namepin.tools.media import Media
from namepin.tools.models.config import BlipConfig
from support import tiny_blip, tiny_grounders
from support.tiny_grounders import QUERIES, ground_request
from support.tiny_world import write_world

PICTURE = Image.effect_mandelbrot((60, 40), (-2, -1.5, 1, 1.5), 30).convert("RGB")
REF = tiny_blip.image_ref(PICTURE)
MEDIA = Media(images={REF.sha256: PICTURE})
BOXES = [[2.0, 2.0, 20.0, 30.0], [30.0, 5.0, 99.0, 35.0], [50.0, 50.0, 70.0, 70.0]]


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    tiny_grounders.save_yolos(folder / "yolos")
    tiny_blip.save_folder(tiny_blip.tiny_net(), folder / "blip")
    return folder


def a_tool(nets: Path, threshold: float = 0.0, regions: str = "", top: int = 5) -> DetectorGrounder:
    detector = DetectorConfig(weights=str(nets / "yolos"), top=top)
    blip = BlipConfig(weights=str(nets / "blip"))
    return DetectorGrounder(DetectorGrounderConfig(detector=detector, blip=blip, threshold=threshold, regions=regions))


def recorded(tmp_path: Path) -> str:
    file = tmp_path / "regions.jsonl"
    file.write_text(json.dumps({"id": "1", "image": REF.sha256, "regions": BOXES}) + "\n")
    return str(file)


def test_detector_boxes_lie_in_the_picture_and_are_bounded(nets: Path) -> None:
    boxes = Detector(DetectorConfig(weights=str(nets / "yolos"), top=4)).boxes(PICTURE)
    assert 1 <= len(boxes) <= 4 and len(set(boxes)) == len(boxes)
    assert all(0 <= box[0] < box[2] <= 60 and 0 <= box[1] < box[3] <= 40 for box in boxes)


def test_grounder_takes_the_box_that_the_matcher_likes_best(
    nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = a_tool(nets, threshold=0.5, regions=recorded(tmp_path))

    def scores(requests: list[MatchRequest], media: Media) -> list[Matches]:
        assert [media.images[one.image.sha256].size for one in requests] == [(18, 28), (30, 30)]
        told = [(0.6, 0.1, 0.5), (0.9, 0.2, 0.4)]  # of each box, the three mentions
        return [Matches(matches=tuple(Match(score=score) for score in row)) for row in told]

    monkeypatch.setattr(tool.matcher, "run", scores)
    (found,) = tool.run([ground_request(REF, *QUERIES)], MEDIA)
    first, second, third = found.groundings
    assert first.boxes[0].box == (30.0, 5.0, 60.0, 35.0) and first.boxes[0].score == 0.9
    assert not second.boxes and third.boxes[0].box == (2.0, 2.0, 20.0, 30.0)


def test_grounder_runs_on_real_nets_and_depends_on_every_setting(nets: Path, tmp_path: Path) -> None:
    tool = a_tool(nets)
    (found,) = tool.run([ground_request(REF, *QUERIES)], MEDIA)
    assert all(one.boxes and 0 <= one.boxes[0].score <= 1 for one in found.groundings)
    (empty,) = a_tool(nets, threshold=1.0).run([ground_request(REF, *QUERIES)], MEDIA)
    assert not any(one.boxes for one in empty.groundings)
    others = (a_tool(nets, threshold=0.3), a_tool(nets, top=3), a_tool(nets, regions=recorded(tmp_path)))
    assert len({tool.fingerprint, *(one.fingerprint for one in others)}) == 4


def test_grounder_says_nothing_of_a_picture_without_boxes(nets: Path, tmp_path: Path) -> None:
    file = tmp_path / "none.jsonl"
    file.write_text('{"id": "2", "image": "cd", "regions": []}\n')
    (found,) = a_tool(nets, regions=str(file)).run([ground_request(REF, *QUERIES)], MEDIA)
    assert [one.boxes for one in found.groundings] == [(), (), ()]


@pytest.mark.parametrize("row", ['{"image": "x"}', '{"image": "x", "regions": [[1, 2, 3]]}', "{"])
def test_grounder_refuses_a_file_of_other_rows(nets: Path, tmp_path: Path, row: str) -> None:
    (tmp_path / "bad.jsonl").write_text(row + "\n")
    with pytest.raises(NamepinError, match="E134"):
        a_tool(nets, regions=str(tmp_path / "bad.jsonl"))
    with pytest.raises(NamepinError, match="E130"):
        a_tool(nets, regions=str(tmp_path / "nothing.jsonl"))


def test_detector_refuses_another_model(nets: Path) -> None:
    with pytest.raises(NamepinError, match=r"E21\d"):
        Detector(DetectorConfig(weights=str(nets / "blip")))


def test_data_regions_writes_what_eval_and_the_grounder_read(nets: Path, tmp_path: Path) -> None:
    world, out = write_world(tmp_path / "world", posts=2), tmp_path / "out" / "regions.jsonl"
    app = typer.Typer()
    app.add_typer(data, name="data")
    words = ["data", "regions", "--dataset", "gmner", "--root", str(world), "--split", "dev", "--out", str(out)]
    result = CliRunner().invoke(app, [*words, "--weights", str(nets / "yolos"), "--top", "3"], standalone_mode=False)
    assert result.return_value == 0 and "2 pictures in" in result.stdout
    found = read_predictions(out, load_dataset("gmner", world, "dev"))
    assert {post: len(boxes) for post, boxes in found.proposals.items()} == {"dev0": 3, "dev1": 3}
    assert a_tool(nets, regions=str(out))._recorded is not None
