"""`namepin pull` against a hub on loopback, through the real `huggingface_hub` client."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from namepin.agent.workflows import pull as workflow
from namepin.agent.workflows.hub import Hub
from namepin.agent.workflows.pull import Plan, Repository, Wanted, plan, pull, settings_of, wanted_of
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.loading.pins import LOCK_VARIABLE, pinned_revision, read_lock
from support.hub_server import COMMIT, Faults, HubServer, hub_of
from support.processes import NAMEPIN
from support.waiting import wait_until

NAME = "ada/tiny"
TENSORS = save({"w": np.arange(20_000, dtype=np.float32)})
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "tokenizer.json": b"{}" * 10,
    "model.safetensors": TENSORS,
    "pytorch_model.bin": b"p" * 5000,
    "README.md": b"not needed",
}
NEEDED = {"config.json", "tokenizer.json", "model.safetensors"}


class Counter:
    """Progress that adds up."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.bytes = 0

    def repository(self, repository: Repository) -> None:
        self.names.append(repository.wanted.name)

    def advance(self, file: str, count: int) -> None:
        self.bytes += count


@pytest.fixture(autouse=True)
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lock.json"
    monkeypatch.setenv(LOCK_VARIABLE, str(path))
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Hub]:
    def hub(server: HubServer, **changed: Any) -> Hub:
        return Hub(**{"endpoint": server.url, "cache": tmp_path / "hub", "wait_s": 0.0, "timeout_s": 60.0, **changed})

    return hub


TINY = Wanted(NAME)


def pulled(hub: Hub, wanted: Wanted = TINY, **options: bool) -> tuple[Plan, Counter]:
    planned, counter = plan(hub, [wanted], {}, **options), Counter()
    pull(hub, planned, counter)
    return planned, counter


def snapshot(hub: Hub) -> dict[str, bytes]:
    folder = hub.folder(NAME) / "snapshots" / COMMIT
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pull_of_whole_repository_fetches_needed_files_and_records_lock(make: Callable[..., Hub], lock: Path) -> None:
    with hub_of(NAME, FILES) as server:
        hub = make(server)
        planned, counter = pulled(hub)
        assert snapshot(hub) == {name: FILES[name] for name in NEEDED}
        (repository,) = planned.repositories
        assert repository.pinned_by == "hub" and repository.size == sum(len(FILES[name]) for name in NEEDED)
        assert counter.names == [NAME] and counter.bytes == len(TENSORS)
        locked = read_lock(lock)[NAME]
        assert locked.revision == COMMIT == pinned_revision(NAME) and set(locked.files) == NEEDED
        again, _ = pulled(hub)
        assert again.repositories[0].missing == () and again.repositories[0].pinned_by == "lock"
        assert server.asked == [("model.safetensors", 0)]


def test_pull_obeys_lock_until_update(make: Callable[..., Hub]) -> None:
    with hub_of(NAME, FILES) as server:
        hub = make(server)
        pulled(hub)
        server.commit = "f" * 40  # somebody pushes
        server.files = {**FILES, "config.json": b"{}"}
        locked = _repository(hub)
        assert locked.commit == COMMIT and locked.pinned_by == "lock"
        pulled(hub, update=True)
        assert pinned_revision(NAME) == "f" * 40


def _repository(hub: Hub) -> Repository:
    """The plan for a locked name whose listing the client still has."""
    (file,) = [path for path in (hub.folder(NAME) / "trees").glob("*.json")]
    assert file.stem == COMMIT
    return plan(Hub(**{**vars(hub), "offline": True}), [Wanted(NAME)], {}).repositories[0]


def test_pull_with_cut_connections_resumes_from_every_cut(make: Callable[..., Hub]) -> None:
    with hub_of(NAME, FILES, Faults(cut_after=30_000)) as server:
        hub = make(server)
        _, counter = pulled(hub)
        assert snapshot(hub)["model.safetensors"] == TENSORS and counter.bytes == len(TENSORS)
        assert [start for _, start in server.asked] == [0, 30_000, 60_000]


def test_pull_after_failed_pull_goes_on_at_last_byte(make: Callable[..., Hub]) -> None:
    with hub_of(NAME, FILES, Faults(cut_after=30_000, down_after=1)) as server:
        hub = make(server, attempts=2)
        with pytest.raises(NamepinError, match="E224.*503.*goes on where it stopped") as failed:
            pulled(hub)
        assert failed.value.exit_code == Exit.UNREACHABLE
        server.faults = Faults()
        planned = plan(hub, [Wanted(NAME)], {})
        assert planned.repositories[0].resumed == 30_000
        server.asked.clear()
        pull(hub, planned, Counter())
        assert server.asked == [("model.safetensors", 30_000)] and snapshot(hub)["model.safetensors"] == TENSORS


def test_pull_after_kill_goes_on_at_last_byte(make: Callable[..., Hub]) -> None:
    pause = threading.Event()
    with hub_of(NAME, FILES, Faults(pause=pause, pause_after=30_000)) as server:
        hub = make(server)
        home = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(hub.cache)}
        with subprocess.Popen([*NAMEPIN, "pull", NAME], env=home, stdout=subprocess.DEVNULL) as process:
            blobs = hub.folder(NAME) / "blobs"
            wait_until(lambda: [part.stat().st_size for part in blobs.glob("*.incomplete")] == [30_000], "bytes arrive")
            process.kill()
        pause.set()
        server.asked.clear()
        pulled(hub)
        assert server.asked == [("model.safetensors", 30_000)] and snapshot(hub)["model.safetensors"] == TENSORS


def test_pull_from_server_without_ranges_starts_again(make: Callable[..., Hub]) -> None:
    with hub_of(NAME, FILES, Faults(cut_after=30_000, down_after=1)) as server:
        hub = make(server, attempts=1)
        with pytest.raises(NamepinError, match="E224"):
            pulled(hub)
        server.faults = Faults(no_parts=True)
        counter = Counter()
        pull(hub, plan(hub, [Wanted(NAME)], {}), counter)
        assert snapshot(hub)["model.safetensors"] == TENSORS and counter.bytes == len(TENSORS) - 30_000


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_pull_of_other_bytes_than_listed_raises_e226_and_keeps_none(make: Callable[..., Hub], path: str) -> None:
    wrong = bytes(len(FILES[path]))
    with hub_of(NAME, FILES, Faults(corrupt={path: wrong})) as server:
        hub = make(server)
        with pytest.raises(NamepinError, match=f"E226.*{NAME}/{path}") as failed:
            pulled(hub)
        assert failed.value.exit_code == Exit.UNREACHABLE
        assert path not in snapshot(hub) if (hub.folder(NAME) / "snapshots").is_dir() else True
        assert wrong not in {file.read_bytes() for file in (hub.folder(NAME) / "blobs").iterdir() if file.is_file()}
        server.faults = Faults()
        pulled(hub)
        assert snapshot(hub) == {name: FILES[name] for name in NEEDED}


def test_pull_with_damaged_part_of_earlier_run_fetches_it_anew(make: Callable[..., Hub]) -> None:
    with hub_of(NAME, FILES, Faults(cut_after=30_000, down_after=1)) as server:
        hub = make(server, attempts=1)
        with pytest.raises(NamepinError):
            pulled(hub)
        (part,) = (hub.folder(NAME) / "blobs").glob("*.incomplete")
        part.write_bytes(b"x" * 30_000)
        server.faults = Faults()
        pulled(hub)
        assert snapshot(hub)["model.safetensors"] == TENSORS


def test_pull_replaces_damaged_file_of_cache(make: Callable[..., Hub]) -> None:
    with hub_of(NAME, FILES) as server:
        hub = make(server)
        pulled(hub)
        for name in ("model.safetensors", "config.json"):
            damaged = (hub.folder(NAME) / "snapshots" / COMMIT / name).resolve()
            damaged.write_bytes(bytes(damaged.stat().st_size))
        pulled(hub)
        assert snapshot(hub) == {name: FILES[name] for name in NEEDED}


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (Faults(status=(401, "GatedRepo")), "E222.*401.*HF_TOKEN is not set.*accept its terms"),
        (Faults(status=(403, "GatedRepo")), "E222.*403"),
        (Faults(status=(401, "RepoNotFound")), "E222.*401.*does not exist"),
        (Faults(status=(404, "RepoNotFound")), "E223.*no repository ada/tiny"),
        (Faults(status=(404, "RevisionNotFound")), "E223.*revision"),
        (Faults(status=(500, "")), "E224.*500"),
    ],
)
def test_pull_from_refusing_hub_raises_coded_error(make: Callable[..., Hub], faults: Faults, message: str) -> None:
    with hub_of(NAME, FILES, faults) as server:
        with pytest.raises(NamepinError, match=message) as failed:
            pulled(make(server))
        assert failed.value.exit_code == Exit.UNREACHABLE and "\n" not in str(failed.value)


def test_pull_sends_token_of_environment_and_never_shows_it(make: Callable[..., Hub]) -> None:
    with hub_of(NAME, FILES, Faults(token="hf_right")) as server:
        with pytest.raises(NamepinError, match="E222.*the token in HF_TOKEN may not read it") as failed:
            pulled(make(server, token="hf_secret"))
        assert "hf_secret" not in str(failed.value) and "hf_secret" not in repr(make(server, token="hf_secret"))
        hub = make(server, token="hf_right")
        pulled(hub)
        assert set(snapshot(hub)) == NEEDED


def test_pull_from_nobody_raises_e224(make: Callable[..., Hub]) -> None:
    with hub_of(NAME, FILES) as server:
        hub = make(server)
    with pytest.raises(NamepinError, match="E224"):
        pulled(hub)


def test_pull_from_silent_hub_raises_e224(make: Callable[..., Hub]) -> None:
    pause = threading.Event()
    with hub_of(NAME, FILES, Faults(pause=pause, pause_after=0)) as server:
        hub = make(server, timeout_s=0.5, attempts=1)
        planned = plan(make(server), [TINY], {})
        try:
            with pytest.raises(NamepinError, match="E224.*goes on where it stopped"):
                pull(hub, planned, Counter())
        finally:
            pause.set()


def test_pull_from_slow_hub_completes(make: Callable[..., Hub]) -> None:
    pause = threading.Event()
    with hub_of(NAME, FILES, Faults(pause=pause)) as server:
        hub, counter = make(server), Counter()
        planned = plan(hub, [Wanted(NAME)], {})
        worker = threading.Thread(target=pull, args=(hub, planned, counter))
        worker.start()
        while not counter.bytes:
            worker.join(0.01)
            assert worker.is_alive()
        assert counter.bytes == 100  # what has arrived is counted while the rest is on its way
        pause.set()
        worker.join()
        assert snapshot(hub)["model.safetensors"] == TENSORS


def test_pull_onto_full_disk_raises_e225_before_first_byte(
    make: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "_free", lambda cache: 70_000)
    with hub_of(NAME, FILES) as server:
        with pytest.raises(NamepinError, match="E225.*0.08 MB to fetch, and only 0.07 MB free.*HF_HOME") as failed:
            pulled(make(server))
        assert failed.value.exit_code == Exit.UNUSABLE and server.asked == []


def test_offline_pull_checks_locked_files_and_asks_nobody(make: Callable[..., Hub]) -> None:
    with hub_of(NAME, FILES) as server:
        hub = make(server)
        offline = make(server, offline=True)
        with pytest.raises(NamepinError, match="E224.*offline mode is on"):
            pulled(offline)
        pulled(hub)
        server.requests.clear()
        pulled(offline)
        assert server.requests == []
        damaged = (hub.folder(NAME) / "snapshots" / COMMIT / "model.safetensors").resolve()
        damaged.write_bytes(bytes(damaged.stat().st_size))
        with pytest.raises(NamepinError, match="E211.*namepin pull ada/tiny"):
            pulled(offline)


def test_pull_of_other_bytes_than_locked_raises_e226(make: Callable[..., Hub], lock: Path, tmp_path: Path) -> None:
    with hub_of(NAME, FILES) as server:
        pulled(make(server))
    with hub_of(NAME, {**FILES, "config.json": b"{}"}) as mirror:  # the same commit, other bytes
        with pytest.raises(NamepinError, match="E226.*config.json.*lock"):
            pulled(make(mirror, cache=tmp_path / "other"))


def test_damaged_lock_raises_e228(lock: Path) -> None:
    lock.write_text('{"repositories": {"ada/tiny": {}}}')
    with pytest.raises(NamepinError, match="E228.*delete it"):
        pinned_revision(NAME)


def test_pull_without_safetensors_takes_pickled_tensors(make: Callable[..., Hub]) -> None:
    files = {name: data for name, data in FILES.items() if name != "model.safetensors"}
    with hub_of(NAME, files) as server:
        hub = make(server)
        pulled(hub)
        assert set(snapshot(hub)) == {"config.json", "tokenizer.json", "pytorch_model.bin"}


def test_pull_of_one_file_links_it_where_profile_expects_it(make: Callable[..., Hub], tmp_path: Path) -> None:
    into = tmp_path / "weights" / "seem.pt"
    with hub_of(NAME, {**FILES, "seem.pt": b"s" * 9000}) as server:
        pulled(make(server), Wanted(NAME, file="seem.pt", into=into))
        assert into.read_bytes() == b"s" * 9000 and server.asked == [("seem.pt", 0)]


def test_wanted_of_profiles_names_their_repositories_once() -> None:
    wanted, elsewhere = wanted_of("modern", settings_of("modern"))
    assert [one.name for one in wanted] == [
        "openmmlab-community/mm_grounding_dino_large_all", "facebook/sam2.1-hiera-large",
    ]  # fmt: skip
    assert elsewhere == {}
    wanted, elsewhere = wanted_of("riveg", settings_of("riveg"))
    assert {"facebook/sam-vit-huge"} <= {one.name for one in wanted}
    assert all(command.startswith("curl ") for command in elsewhere.values()) and elsewhere
    gem = {one.name: one for one in wanted_of("gem", settings_of("gem"))[0]}
    assert gem["xdecoder/SEEM"].file == "seem_focall_v0.pt" and not gem["openai/clip-vit-base-patch32"].weights
    assert wanted_of("starter", settings_of("starter")) == ([], {})
    assert settings_of(NAME) is None and wanted_of(NAME, None)[0] == [Wanted(NAME)]
    assert wanted_of("seem_focall_v0.pt", None)[0][0].name == "xdecoder/SEEM"
    with pytest.raises(NamepinError, match="E200.*did you mean modern"):
        settings_of("modren")


def test_pull_command_reads_environment_and_loads_offline_afterwards(tmp_path: Path, lock: Path) -> None:
    with hub_of(NAME, FILES, Faults(token="hf_right")) as server:
        home = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_right"}
        offline = {**home, "HF_HUB_OFFLINE": "1"}

        def command(*arguments: str, env: dict[str, str] = home) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*NAMEPIN, *arguments], env=env, capture_output=True, text=True, check=False)

        listed = command("pull", NAME, "--dry-run")
        assert (listed.returncode, server.asked) == (0, []), listed.stderr
        assert f"{NAME} at {COMMIT[:12]} (newest, not pinned yet)" in listed.stdout
        assert "3 files, 0.08 MB: 0.08 MB to fetch" in listed.stdout and not lock.exists()
        done = command("pull", NAME)
        assert done.returncode == 0 and f"the weights of {NAME} are here and intact" in done.stdout, done.stderr
        server.requests.clear()
        report = json.loads(command("pull", NAME, "--json", env=offline).stdout)
        assert report["repositories"][0]["pinned_by"] == "lock" and report["repositories"][0]["to_fetch"] == 0
        load = f"from namepin.tools.loading.pretrained import locate; print(locate({NAME!r}))"
        found = subprocess.run([sys.executable, "-c", load], env=offline, capture_output=True, text=True, check=True)
        assert Path(found.stdout.strip()).name == COMMIT and server.requests == []
        refused = command("pull", "ada/other")
        assert refused.returncode == 3 and refused.stderr.startswith("error: E223") and "hf_right" not in refused.stderr
