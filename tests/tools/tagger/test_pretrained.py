"""Trained taggers saved and loaded: by folder, and by name from a hub on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest
from namepin.tools.media import Media
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger
from namepin.tools.tagger.pretrained import find_adapter
from support.paths import ROOT
from support.upload_hub import upload_hub

NAME, TOKEN = "you/your-tagger", "hf_" + "t" * 30
POSTS = [TagRequest(text=text, tokens=tuple(text.split())) for text in ("Ada met Bob Dylan", "Rain over London")]

CLIENT = """
import json, sys
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest
from namepin.tools.media import Media
from namepin.tools.tagger.dual import DualTagger
try:
    told = {"commit": DualTagger.from_pretrained("starter-tagger").push_to_hub(sys.argv[1], private=True)}
    tagger = DualTagger.from_pretrained(sys.argv[1])
    posts = [TagRequest.model_validate(row) for row in json.loads(sys.argv[2])]
    told["tags"] = [tags.model_dump(mode="json") for tags in tagger.run(posts, Media())]
    told["fingerprint"] = tagger.fingerprint
except NamepinError as error:
    told = {"code": error.code, "error": str(error)}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def tagger() -> DualTagger:
    return DualTagger.from_pretrained("starter-tagger")


def test_save_pretrained_folder_loads_as_the_same_tagger(tagger: DualTagger, tmp_path: Path) -> None:
    tagger.save_pretrained(tmp_path / "mine")
    again = DualTagger.from_pretrained(tmp_path / "mine")
    assert again.fingerprint == tagger.fingerprint
    assert again.run(POSTS, Media()) == tagger.run(POSTS, Media())
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md",
        "adapter.safetensors",
        "calibration.json",
        "config.json",
    ]
    assert DualTagger(TaggerConfig(adapter=str(tmp_path / "mine"))).fingerprint == tagger.fingerprint, "as a setting"


def test_save_pretrained_into_file_raises_e500(tagger: DualTagger, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NamepinError, match="E500"):
        tagger.save_pretrained(tmp_path / "file")


def test_save_pretrained_of_tagger_in_memory_raises_e210(tagger: DualTagger, tmp_path: Path) -> None:
    loose = DualTagger.of(tagger.net, tagger.builder, tagger.manifest, tagger.config)
    with pytest.raises(NamepinError, match="E210"):
        loose.save_pretrained(tmp_path)


def told_by_client(endpoint: str, home: Path, token: str) -> dict[str, object]:
    """A process of its own: the hub's client reads its address when it is imported."""
    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    posts = json.dumps([post.model_dump(mode="json") for post in POSTS])
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, NAME, posts], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_push_to_hub_and_from_pretrained_give_the_same_tagger(tagger: DualTagger, tmp_path: Path) -> None:
    with upload_hub(NAME, TOKEN) as hub:
        told = told_by_client(hub.url, tmp_path, TOKEN)
        assert told["commit"] == hub.commit and hub.commits == ["Add a tagger"]
        assert hub.created[0]["name"] == "your-tagger" and hub.created[0]["visibility"] == "private"
        assert set(hub.files) == {"README.md", "adapter.safetensors", "calibration.json", "config.json"}
        assert b'tagger__adapter="you/your-tagger"' in hub.files["README.md"]
    assert told["fingerprint"] == tagger.fingerprint
    assert told["tags"] == [tags.model_dump(mode="json") for tags in tagger.run(POSTS, Media())]


def test_push_to_hub_with_wrong_token_raises_e229_without_it(tmp_path: Path) -> None:
    with upload_hub(NAME, TOKEN) as hub:
        told = told_by_client(hub.url, tmp_path, "hf_" + "w" * 30)
        assert told["code"] == "E229" and not hub.files
    assert "www" not in str(told["error"])


def test_find_adapter_of_missing_path_returns_it_for_its_reader(tmp_path: Path) -> None:
    assert find_adapter(str(tmp_path / "gone")) == tmp_path / "gone"
    with pytest.raises(NamepinError, match="E210"):
        DualTagger.from_pretrained(tmp_path / "gone")
