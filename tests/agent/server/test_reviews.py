"""Reviews over REST: a post waits for its owner's answers, also after a restart, and accepts nobody else's."""

import base64
import io
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from namepin.agent.config.settings import load_settings
from namepin.agent.server.access import TooMany
from namepin.agent.server.app import create_app
from namepin.agent.server.reviews import Reviewed, Reviews
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.agent.web import fragments
from namepin.graphs.review_nodes import Question
from support.paths import ROOT
from support.served import HOST

TEXT = "Eileen Collins in front of the Discovery"
IMAGE = base64.b64encode((ROOT / "examples" / "astronaut.jpg").read_bytes()).decode()
TOKENS = {"ann": "a" * 20, "bo": "b" * 20}
ANN, BO = ({"authorization": f"Bearer {TOKENS[name]}"} for name in ("ann", "bo"))
CLOSE = ("review.match_margin=1", "gate.margin=9")
"""Everything is close: first every type is asked, then every place."""


def make_client(folder: Path, tokens: dict[str, str] | None = None, *flags: str) -> TestClient:
    assignments = [*CLOSE, *flags]
    settings = load_settings("starter", assignments=assignments, environment={})
    app = create_app(settings, assignments=assignments, tokens=tokens or {}, folder=folder)
    return TestClient(app, HOST, raise_server_exceptions=False)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with make_client(tmp_path) as client:
        yield client


def begin(client: TestClient, **more: Any) -> dict[str, Any]:
    answer = client.post("/api/reviews", json={"id": "a", "text": TEXT, "image": IMAGE}, **more)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def first_choices(review: dict[str, Any]) -> dict[str, str]:
    return {question["key"]: question["choices"][0] for question in review["questions"]}


def answer(client: TestClient, review: dict[str, Any], answers: Any, **more: Any) -> Any:
    return client.post(f"/api/reviews/{review['id']}/answers", json={"answers": answers}, **more)


def test_reviews_with_answers_resume_run_until_done(client: TestClient, tmp_path: Path) -> None:
    waiting = begin(client)
    assert waiting["state"] == "waiting" and waiting["extraction"] is None
    assert {question["kind"] for question in waiting["questions"]} == {"label"}
    assert client.get(f"/api/reviews/{waiting['id']}").json() == waiting
    assert client.get("/api/reviews").json() == [waiting]

    for bad in ({}, {"label:0": "no such type"}, {"place:0": True}):
        refused = answer(client, waiting, bad)
        assert (refused.status_code, refused.json()["code"]) == (400, "E333"), bad
    assert client.get(f"/api/reviews/{waiting['id']}").json() == waiting, "it still waits"

    places = answer(client, waiting, first_choices(waiting)).json()
    assert [q["kind"] for q in places["questions"]] == ["place"] * len(waiting["questions"])
    no = {question["key"]: False for question in places["questions"]}
    done = answer(client, waiting, no).json()
    assert done["state"] == "done" and done["questions"] == []
    assert len(done["answered"]) == 2 * len(no)
    entities = done["extraction"]["entities"]
    assert entities and all(e["groundable"] is False and "review" in e["provenance"] for e in entities)
    assert client.get(f"/api/reviews/{done['id']}").json() == done
    again = answer(client, done, no)
    assert (again.status_code, again.json()["code"]) == (400, "E333")
    with sqlite3.connect(tmp_path / "chat.sqlite") as kept:
        assert kept.execute("select count(*) from checkpoints").fetchone() == (0,), (
            "what is done leaves no thread behind"
        )


def test_reviews_persist_over_server_restart(tmp_path: Path) -> None:
    with make_client(tmp_path) as client:
        waiting = begin(client)
    with make_client(tmp_path) as client:
        assert client.get("/api/reviews").json() == [waiting]
        places = answer(client, waiting, first_choices(waiting)).json()
        assert places["state"] == "waiting" and places["questions"]
    with make_client(tmp_path) as client:
        assert answer(client, waiting, first_choices(places)).json()["state"] == "done"
    with make_client(tmp_path, None, "gate.gamma=0.7") as client:
        other = begin(client)
    with make_client(tmp_path) as client:
        refused = answer(client, other, first_choices(other))
        assert (refused.status_code, refused.json()["code"]) == (400, "E334"), "the server has other settings now"


def test_reviews_with_outdated_record_reload_questions_of_run(client: TestClient, tmp_path: Path) -> None:
    waiting = begin(client)
    record = tmp_path / "reviews" / "local" / waiting["id"] / "review.json"
    before = record.read_bytes()
    places = answer(client, waiting, first_choices(waiting)).json()
    record.write_bytes(before)
    refused = answer(client, waiting, first_choices(waiting))
    assert (refused.status_code, refused.json()["code"]) == (400, "E333")
    assert client.get(f"/api/reviews/{waiting['id']}").json()["questions"] == places["questions"]
    assert answer(client, waiting, first_choices(places)).json()["state"] == "done"


def test_reviews_of_other_owner_return_404(tmp_path: Path) -> None:
    with make_client(tmp_path, TOKENS, "serve.max_reviews=1") as client:
        waiting = begin(client, headers=ANN)
        address = f"/api/reviews/{waiting['id']}"
        assert client.get("/api/reviews", headers=BO).json() == []
        assert client.get(address, headers=BO).status_code == 404
        assert answer(client, waiting, first_choices(waiting), headers=BO).status_code == 404
        assert client.post(f"{address}/row", headers=BO).status_code == 404
        assert client.delete(address, headers=BO).status_code == 404
        assert client.get(address).status_code == 401
        assert client.get(address, headers=ANN).json() == waiting, "and it still waits"
        full = client.post("/api/reviews", json={"text": TEXT}, headers=ANN)
        assert full.status_code == 429 and "1 reviews" in full.json()["message"]
        places = answer(client, waiting, first_choices(waiting), headers=ANN).json()
        answer(client, places, first_choices(places), headers=ANN)
        assert client.post(f"{address}/row", headers=ANN).json()["posts"] == 1
        assert client.get("/api/rows", headers=BO).status_code == 404
        assert client.delete("/api/rows", headers=BO).status_code == 404
        assert client.get("/api/rows", headers=ANN).status_code == 200
        assert client.delete(address, headers=ANN).json() == {"deleted": waiting["id"]}
        assert client.get("/api/reviews", headers=ANN).json() == []


def test_reviews_with_answers_export_training_rows_once(client: TestClient, tmp_path: Path) -> None:
    waiting = begin(client)
    early = client.post(f"/api/reviews/{waiting['id']}/row")
    assert (early.status_code, early.json()["code"]) == (400, "E333")
    places = answer(client, waiting, first_choices(waiting)).json()
    done = answer(client, places, {question["key"]: "no" for question in places["questions"]}).json()
    for _ in range(2):
        saved = client.post(f"/api/reviews/{waiting['id']}/row").json()
        assert saved == {"files": ["tagger/txt_fine/train.txt", "matcher/txt_fine/train.txt"], "posts": 1}, "once"
    rows = client.get("/api/rows")
    assert rows.headers["content-type"] == "application/zip" and "attachment" in rows.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(rows.content)) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"tagger", "matcher"}
        text = archive.read("tagger/txt_fine/train.txt").decode()
    first = done["extraction"]["entities"][0]
    assert f"\tB-{first['fine_label']}\n" in text
    assert list(tmp_path.glob("*.zip")) == [], "the file that was sent is gone"
    assert client.delete("/api/rows").status_code == 200
    assert client.get("/api/rows").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": " "}, 400, "E101"),
        ({"text": "x", "image": "???"}, 400, "E123"),
        ({"text": "x", "image": base64.b64encode(b"<svg>").decode()}, 400, "E123"),
        ({"text": "x", "profile": "gem"}, 400, "E200"),
        ({"text": "x", "path": "/etc/passwd"}, 422, "E103"),
    ],
)
def test_reviews_with_invalid_post_return_400_and_store_nothing(
    client: TestClient, tmp_path: Path, body: dict[str, Any], status: int, code: str
) -> None:
    refused = client.post("/api/reviews", json=body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert client.get("/api/reviews").json() == [] and list(tmp_path.glob("reviews/*/*")) == []


async def test_reviews_beyond_bound_replace_finished_ones_only(tmp_path: Path) -> None:
    reviews = Reviews(tmp_path, ProfilePool(["starter"], CLOSE), most=1)

    async def begun(source: str) -> Reviewed:
        return await reviews.begin("me", {"id": "a", "text": "Bob Dylan"}, None, "starter", source=source)

    first = await begun("r1")
    done = await reviews.answer("me", first.id, {q.key: q.choices[0] for q in first.questions})
    assert done is not None and done.state == "done"
    with pytest.raises(TooMany):
        await reviews.begin("me", {"id": "a", "text": "Bob Dylan"}, None, "starter")
    second = await begun("r2")
    assert [kept.id for kept in reviews.list("me")] == [second.id]
    with pytest.raises(TooMany):
        await begun("r3")
    assert [kept.id for kept in reviews.list("me")] == [second.id], "one that waits is not thrown away"


def test_review_questions_html_with_markup_escapes_it() -> None:
    evil = '<img src=x onerror="alert(1)">'
    question = Question(
        key="label:0", kind="label", mention=evil, start=0, end=3, choices=("city", evil), value=0.2, threshold=0.2
    )
    html = fragments.questions(Reviewed(id="a" * 32, profile="starter", questions=(question,)))
    assert "<img" not in html and html.count("&lt;img") == 3
