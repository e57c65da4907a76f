"""Checks the requirements of a profile: every tool is really built, every server really called."""

import os
import platform
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from PIL import Image
from pydantic import BaseModel

from namepin.agent.api import Namepin
from namepin.agent.config.backends import BACKENDS
from namepin.agent.config.build import build_tool
from namepin.agent.config.settings import Settings, ToolSettings, load_settings
from namepin.agent.workflows.checkpoint_sizes import NeededWeights, fit, wanted_weights
from namepin.graphs.calls import LiveCalls
from namepin.graphs.registry import ROLES_OF
from namepin.tools.errors import NamepinError, install_command
from namepin.tools.types import Frozen

SERVER_TIMEOUT_S = 5.0
_PACKAGES = ("torch", "transformers", "langgraph", "onnxruntime", "rapidocr", "opencv-python-headless")


class Check(Frozen):
    """One line of the report.

    Attributes:
        name: a role of the graph, or another checked part.
        state: `ok`; `off` if the profile skips the role; `missing` if a requirement of the profile is missing.
        detail: the findings.
        megabytes: size of the weights on disk, if any.
        mend: the command or flag that adds the missing part.
    """

    name: str
    state: Literal["ok", "off", "missing"]
    detail: str
    megabytes: float | None = None
    mend: str = ""


def examine(settings: Settings) -> Iterator[Check]:
    """The report on a profile, one check after the other, in the order of the graph."""
    yield Check(name="python", state="ok", detail=f"{platform.python_version()}, {_cores()} cores, {_device()}")
    yield _packages()
    built: dict[str, Any] = {}
    for role in BACKENDS:
        if role not in ROLES_OF[settings.graph_key]:
            continue
        if role in settings.tools:
            yield _tool(settings, role, built)
        else:
            yield _left_out(role, role in settings.requested)
    yield from _memory(settings)
    if len(built) == len(settings.tools.keys() & ROLES_OF[settings.graph_key]):
        yield _trial(settings, LiveCalls(built))


def _trial(settings: Settings, calls: LiveCalls) -> Check:
    """One post with a picture through the whole graph, since some tools load their weights at the first call."""
    began = time.perf_counter()
    try:
        found = Namepin(settings, calls).extract("Ada Example was in Oslo today", Image.new("RGB", (320, 240), "white"))
    except Exception as error:  # the report shows any error that stops the profile
        return Check(name="trial", state="missing", detail=f"a post fails: {error}", mend="see the message")
    seconds = time.perf_counter() - began
    down = "".join(f"; {notice.message}" for notice in found.warnings)
    return Check(name="trial", state="ok", detail=f"a post with a picture: {found.status} in {seconds:.1f} s{down}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _device() -> str:
    import torch

    return f"GPU {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"


def _packages() -> Check:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        detail = f"not installed: {', '.join(missing)}"
        return Check(name="packages", state="missing", detail=detail, mend="; ".join(map(install_command, missing)))
    return Check(name="packages", state="ok", detail=", ".join(found))


def _left_out(role: str, configured: bool) -> Check:
    if configured:
        return Check(
            name=role, state="off", detail="configured, but no model is named", mend=f"--set {role}.model=NAME"
        )
    backend = next(iter(BACKENDS[role]))
    mend = (
        f"--set {role}.model=NAME --set {role}.base_url=URL" if backend == "chat" else f"--set {role}.backend={backend}"
    )
    return Check(name=role, state="off", detail="the profile leaves it out; its step is skipped", mend=mend)


def _tool(settings: Settings, role: str, built: dict[str, Any]) -> Check:
    chosen = settings.tools[role]
    if absent := [needed for needed in wanted_weights(chosen.config) if not needed.here]:
        return _to_fetch(settings, role, absent)
    began = time.perf_counter()
    try:
        tool = build_tool(role, chosen)
        server = _server(chosen.config)
        built[role] = tool
    except NamepinError as error:
        return Check(name=role, state="missing", detail=f"{chosen.backend}: {error.what}", mend=error.mend)
    seconds = time.perf_counter() - began
    detail = f"{chosen.backend}, version {tool.version}, ready in {seconds:.1f} s{server}"
    detail += "".join(f"; {fit(needed, _gpu_gb())}" for needed in wanted_weights(chosen.config) if needed.published)
    return Check(name=role, state="ok", detail=detail, megabytes=_megabytes(chosen))


def _to_fetch(settings: Settings, role: str, absent: Sequence[NeededWeights]) -> Check:
    """The size of a tool's weights before any download."""
    chosen = settings.tools[role]
    lines = []
    for needed in absent:
        size = f", {needed.published.download_gb:.1f} GB to download" if needed.published else ""
        lines.append(f"{needed.weights} is not on this machine{size}; {fit(needed, _gpu_gb())}")
    megabytes = sum(needed.published.download_gb * 1e9 / 2**20 for needed in absent if needed.published)
    return Check(
        name=role,
        state="missing",
        detail=f"{chosen.backend}: {'; '.join(lines)}",
        megabytes=round(megabytes, 1) or None,
        mend=_fetch_command(settings, role, absent),
    )


def _fetch_command(settings: Settings, role: str, absent: Sequence[NeededWeights]) -> str:
    """`namepin pull PROFILE` where the profile itself names these weights; else a command for each of them."""
    commands = list(dict.fromkeys(needed.command for needed in absent))
    own = load_settings(settings.profile, environment={}).tools.get(role)
    if own == settings.tools[role] and all(command.startswith("namepin pull ") for command in commands):
        return f"namepin pull {settings.profile}"
    return " && ".join(commands)


def _memory(settings: Settings) -> Iterator[Check]:
    """The weights of all tools together, as the settings load them; a shared model counts once."""
    needed = {n for chosen in settings.tools.values() for n in wanted_weights(chosen.config) if n.published}
    if not needed:
        return
    total = sum(n.memory_gb or 0.0 for n in needed)
    gpu = _gpu_gb()
    detail = f"the weights of {len(needed)} published models take {total:.1f} GB together with these settings"
    if gpu is None:
        yield Check(name="memory", state="ok", detail=f"{detail}; this machine has no GPU: set each device to cpu")
    elif total <= gpu:
        yield Check(name="memory", state="ok", detail=f"{detail}; the GPU has {gpu:.0f} GB")
    else:
        mend = "--set reranker.quantization=4bit --set captioner.quantization=4bit"
        yield Check(name="memory", state="missing", detail=f"{detail}; the GPU has only {gpu:.0f} GB", mend=mend)


def _gpu_gb() -> float | None:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 1e9 if torch.cuda.is_available() else None


def _server(config: BaseModel) -> str:
    """Ask the tool's model servers, if any, for their lists of models.

    Raises:
        NamepinError: E302 when a server does not answer.
    """
    from namepin.tools.llm.config import ChatConfig

    return "".join(map(_answers, config.addresses)) if isinstance(config, ChatConfig) else ""


def _answers(address: str) -> str:
    from namepin.tools.llm.config import KEY_VARIABLE

    address = address.rstrip("/")
    request = urllib.request.Request(f"{address}/models")
    if key := os.environ.get(KEY_VARIABLE):
        request.add_header("Authorization", f"Bearer {key}")
    shown = f"{urlsplit(address).hostname}:{urlsplit(address).port or 443}"
    # A proxy in the environment is for other machines, never for this one.
    local = urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
    try:
        opener.open(request, timeout=SERVER_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            mend = f"set the environment variable {KEY_VARIABLE}"
            raise NamepinError("E302", f"{shown} refuses the key (HTTP {error.code})", mend=mend) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NamepinError(
            "E302", f"no answer from {shown}: {reason}", mend="start the server, or fix base_url"
        ) from error
    return f"; {shown} answers"


def _megabytes(chosen: ToolSettings) -> float | None:
    """The size of a tool's weights on disk; None for a tool that has none."""
    files = _WEIGHTS[chosen.backend](chosen.config) if chosen.backend in _WEIGHTS else ()
    size = sum(path.stat().st_size for path in files if path.is_file())
    return round(size / 2**20, 1) if size else None


def _tagger_files(config: BaseModel) -> tuple[Path, ...]:
    from namepin.tools.loading.encoder import encoder_folder
    from namepin.tools.loading.shipped import WEIGHTS
    from namepin.tools.tagger.adapter import read_manifest

    name = str(config.model_dump()["adapter"])
    folder = WEIGHTS / name if (WEIGHTS / name).is_dir() else Path(name)
    return (
        *folder.glob("*.safetensors"),
        *encoder_folder(read_manifest(folder).spec.encoder).glob("model*.safetensors"),
    )


def _packaged_models(config: BaseModel) -> tuple[Path, ...]:
    """The OCR's bundled models and OpenCV's detectors."""
    import rapidocr

    return tuple(Path(rapidocr.__file__).parent.glob("models/*.onnx"))


_WEIGHTS: Mapping[str, Callable[[BaseModel], tuple[Path, ...]]] = {"dual": _tagger_files, "starter": _packaged_models}
"""Backend -> its weight files."""
