"""`python .ci/page_picture.py`: docs/page.jpg, from a running `namepin serve` in Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "page.jpg"
WIDE, PHONE, GAP = (1180, 860), (390, 860), 16
EXAMPLE = 3
"""Number of the example post that is shown."""


def main() -> None:
    """Start a server, take both pictures, and write them side by side."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        env = {**os.environ, "NAMEPIN_DATA_DIR": folder}
        command = [Path(sys.executable).parent / "namepin", "serve", "--port", str(port)]
        server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        try:
            _wait(port, server)
            with sync_playwright() as play:
                browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                parts = [_shot(browser, port, size, scheme) for size, scheme in ((WIDE, "light"), (PHONE, "dark"))]
        finally:
            server.terminate()
            server.wait()
    sheet = Image.new("RGB", (sum(part.width for part in parts) + GAP, parts[0].height), "white")
    sheet.paste(parts[0], (0, 0))
    sheet.paste(parts[1], (parts[0].width + GAP, 0))
    sheet.save(TARGET, quality=86, optimize=True)


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server ended")


def _shot(browser: Browser, port: int, size: tuple[int, int], scheme: str) -> Image.Image:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
    tab = context.new_page()
    tab.set_default_timeout(120_000)
    tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its literals
    tab.goto(f"http://127.0.0.1:{port}")
    tab.locator(".np-example").nth(EXAMPLE).click()
    tab.wait_for_selector("#np-past article")
    tab.wait_for_load_state("networkidle")
    tab.locator("#np-past .chip").first.hover()
    tab.evaluate(
        "document.activeElement.blur(); document.querySelector('#np-past article').scrollIntoView(); scrollBy(0, -14)"
    )
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        tab.screenshot(path=file.name)
        context.close()
        return Image.open(file.name).convert("RGB")


if __name__ == "__main__":
    main()
