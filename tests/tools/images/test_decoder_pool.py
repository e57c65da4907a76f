"""Decoders in processes: the same pixels, killed at the deadline, without delaying others."""

import os
import subprocess
import sys
import threading
import time

import pytest

from namepin.tools.errors import NamepinError
from namepin.tools.images import load
from namepin.tools.images.decode import Damaged, decode
from namepin.tools.images.decoder_pool import DecoderPool, TooSlow
from support import hostile_pictures as hostile
from support.paths import ROOT
from support.waiting import wait_until

PIXELS = 64_000_000


@pytest.fixture
def pool() -> "DecoderPool":
    return DecoderPool(2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_decoder_pool_pixels_equal_decode_in_process(pool: DecoderPool, kind: str) -> None:
    data = hostile.encoded(kind)
    assert pool.decode(data, PIXELS, 60).tobytes() == decode(data, PIXELS).tobytes()
    pool.close()


def test_decoder_pool_past_deadline_raises_too_slow_and_decodes_next(pool: DecoderPool) -> None:
    with pytest.raises(TooSlow):
        pool.decode(hostile.slow_jpeg(), PIXELS, 0.01)
    assert pool.decode(hostile.encoded("GIF"), PIXELS, 60).size == (32, 24)
    with pytest.raises(Damaged):
        pool.decode(hostile.encoded("GIF")[:30], PIXELS, 60)
    pool.close()
    with pytest.raises(TooSlow):
        pool.decode(hostile.encoded("GIF"), PIXELS, 60)


def test_decoder_pool_replaces_killed_process(pool: DecoderPool) -> None:
    assert pool.decode(hostile.encoded("GIF"), PIXELS, 60).size == (32, 24)
    first = pool._idle[0]._process
    first.kill()
    first.wait()
    assert pool.decode(hostile.encoded("GIF"), PIXELS, 60).size == (32, 24)
    assert pool._idle[0]._process.pid != first.pid
    pool.close()


def test_decoder_pool_close_stops_pending_pictures(pool: DecoderPool) -> None:
    outcome: list[str] = []

    def work() -> None:
        try:
            pool.decode(hostile.slow_jpeg(), PIXELS, 600)
            outcome.append("decoded")
        except TooSlow:
            outcome.append("given up")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    while not pool._busy:
        time.sleep(0.001)
    pool.close()
    for thread in threads:
        thread.join()
    assert "given up" in outcome and len(outcome) == 6


def test_load_image_of_cheap_picture_bypasses_busy_decoder_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """All decoders' processes are taken, and others wait for them."""
    pool = DecoderPool(1)
    monkeypatch.setattr(load, "_processes", pool)
    release = threading.Event()
    monkeypatch.setattr(pool, "_take", lambda: release.wait() and None)
    waiting = [threading.Thread(target=_given_up, args=(hostile.slow_jpeg(),)) for _ in range(8)]
    for thread in waiting:
        thread.start()
    assert load.load_image(hostile.encoded("JPEG")).image.size == (32, 24)
    assert all(thread.is_alive() for thread in waiting)
    monkeypatch.undo()
    pool.close()
    release.set()
    for thread in waiting:
        thread.join()


def _given_up(data: bytes) -> None:
    with pytest.raises((NamepinError, TypeError)):
        load.load_image(data)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_decoder_process_ends_with_its_parent() -> None:
    script = """
import os, sys, threading, time
from namepin.tools.images.decoder_pool import DecoderPool
from support.hostile_pictures import jpeg_of_many_scans
pool = DecoderPool(1)
threading.Thread(target=pool.decode, args=(jpeg_of_many_scans(8000, 5000), 64_000_000, 600), daemon=True).start()
while not pool._busy:
    time.sleep(0.01)
worker = next(iter(pool._busy))._process.pid
assert not os.path.exists("/proc") or b"torch" not in open(f"/proc/{worker}/maps", "rb").read()
print(worker, flush=True)
os.kill(os.getpid(), 9)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, env=env)
    worker = int(ran.stdout)
    wait_until(lambda: not _runs(worker), "the decoder's process ends")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_decoder_pool_in_forked_child_starts_own_processes() -> None:
    """In a process of its own: this one has threads of many libraries, which a fork does not survive."""
    script = """
import os
from namepin.tools.images import load
from support.hostile_pictures import encoded
assert load.load_image(encoded("GIF")).image.size == (32, 24)
child = os.fork()
if not child:
    assert not load._processes._idle
    os._exit(0 if load.load_image(encoded("GIF")).image.size == (32, 24) else 1)
assert os.waitpid(child, 0)[1] == 0
assert load.load_image(encoded("GIF")).image.size == (32, 24)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="no /proc here")
def test_decoder_process_environment_contains_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "NAMEPIN_TOKENS", "NAMEPIN_DATABASE_URL"):
        monkeypatch.setenv(name, "a-secret-of-the-parent")
    pool = DecoderPool(1)
    pool.decode(hostile.encoded("GIF"), PIXELS, 60)
    with open(f"/proc/{pool._idle[0]._process.pid}/environ", "rb") as file:
        assert b"a-secret" not in file.read()
    pool.close()
