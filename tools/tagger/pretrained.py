"""Trained taggers as folders and as repositories of a Hugging Face hub.

A tagger is its adapter's folder: `config.json`, `adapter.safetensors` and, after calibration, `calibration.json`. The
encoder's weights are not part of it: the manifest names them, with their sha256.
"""

import re
import shutil
from pathlib import Path

from namepin.tools.errors import Exit, NamepinError, first_line
from namepin.tools.files import atomic_path, atomic_write
from namepin.tools.loading.pins import pinned_revision
from namepin.tools.loading.shipped import find_shipped
from namepin.tools.tagger.adapter import ADAPTER_FILE, MANIFEST_FILE, Manifest, read_manifest
from namepin.tools.tagger.calibration import CALIBRATION_FILE

FILES = (MANIFEST_FILE, ADAPTER_FILE, CALIBRATION_FILE)
"""The files of a tagger."""
CARD_FILE = "README.md"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_CARD = """---
library_name: namepin
tags: [namepin, token-classification]
---
# A tagger of Namepin

It finds the names of a post and their types ({scheme}), on the encoder `{encoder}`.

```python
from namepin import Namepin

pin = Namepin.from_profile("starter", tagger__adapter="{name}")
```
"""


def find_adapter(name: str, revision: str | None = None) -> Path:
    """A tagger's folder: one that ships with Namepin, a local folder, or a repository's, downloaded or cached.

    Args:
        name: the name of a shipped adapter, a folder, or a repository `OWNER/NAME`.
        revision: a repository's branch, tag or commit; None for the pinned one, else the newest.

    Raises:
        NamepinError: E213 when the hub does not provide it, E221 as `find_shipped`.
    """
    if here := find_shipped(name):
        return here
    path = Path(name)
    if path.exists() or not _HUB_NAME.fullmatch(name):
        return path  # a missing one is reported by its reader
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=pinned_revision(name, revision), allow_patterns=list(FILES)))
    except NamepinError:
        raise
    except Exception as error:  # the hub's client raises a dozen types, from bad names to a missing network
        what = f"no folder here is named {name!r}, and the hub did not give it: {first_line(error)}"
        mend = "check the name; a private repository needs HF_TOKEN"
        raise NamepinError("E213", what, mend=mend, exit_code=Exit.UNREACHABLE) from error


def save_tagger(source: Path, folder: Path, name: str | None = None) -> Manifest:
    """Copy a tagger's files to another folder, with a card for people.

    Args:
        source: the tagger's folder.
        folder: created if it is missing; a tagger in it is replaced.
        name: the name that the card loads it by; None for the folder.

    Raises:
        NamepinError: E210 or E212 when `source` is not a tagger's folder, E500 when `folder` cannot be written.
    """
    manifest = read_manifest(source)
    spec = manifest.spec
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_FILE).unlink(missing_ok=True)  # last, so that a folder with a manifest is complete
        for file in (ADAPTER_FILE, CALIBRATION_FILE, MANIFEST_FILE):
            if (source / file).is_file():
                with atomic_path(folder / file) as partial:
                    shutil.copyfile(source / file, partial)
            else:
                (folder / file).unlink(missing_ok=True)
        card = _CARD.format(scheme=spec.scheme, encoder=spec.encoder, name=name or folder)
        atomic_write(folder / CARD_FILE, card)
    except OSError as error:
        raise NamepinError("E500", f"cannot write: {error.strerror}", where=str(folder)) from error
    return manifest


def push_tagger(folder: Path, name: str, private: bool, token: str | None) -> str:
    """Upload the files of a folder of `save_tagger` as one commit; the repository is created if it is missing.

    Returns:
        The commit.

    Raises:
        NamepinError: E229 when the hub does not take it.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi(token=token, library_name="namepin")
        api.create_repo(name, private=private, exist_ok=True)
        files = [*FILES, CARD_FILE]
        done = api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=files, commit_message="Add a tagger")
    except Exception as error:  # as in find_adapter
        what = f"the hub did not take {name!r}: {first_line(error)}"
        mend = "log in with `hf auth login`, or set HF_TOKEN to a token that may write there"
        raise NamepinError("E229", what, mend=mend, exit_code=Exit.UNREACHABLE) from error
    return str(done.oid)
