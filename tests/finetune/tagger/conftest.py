"""The data that the tagger's tests of training share."""

from pathlib import Path

import pytest
import torch

from support import tiny_encoders
from support.tagger_posts import write_posts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_posts(folder / "gmner", "train", 96)
    write_posts(folder / "gmner", "dev", 24)
    tiny_encoders.save_tiny_bert(folder / "bert")
    (folder / "ccby" / "btc").mkdir(parents=True)
    tweets = "".join(f"{name}\tB-LOC\nis\tO\nfine\tO\n\n" for name in ("Rome", "Oslo") * 8)
    (folder / "ccby" / "btc" / "a.conll").write_text(tweets)
    return folder


@pytest.fixture(autouse=True)
def _keep_threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
