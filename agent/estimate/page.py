"""An estimate for people, and for programs."""

from typing import Any

from namepin.agent.estimate.model import Estimate, Work

BUSY = 0.5
"""Load average per core from which other programs distort a sample's time."""


def describe_estimate(expected: Estimate, work: Work) -> str:
    """The estimate in a few lines, first the cost of a post by stage."""
    rows = [("stage", "on", "calls", "core s", "wall s", "answers", "tokens in", "tokens out")]
    rows += [("picture", "cores", "", f"{work.picture_s:.4f}", "", "", "", "")]
    rows += [("graph", "cores", "", f"{work.graph_s:.4f}", "", "", "", "")]
    for role, stage in work.stages.items():
        tokens = (f"{stage.answers:.2f}", f"{stage.prompt_tokens:.0f}", f"{stage.completion_tokens:.0f}")
        seconds = (f"{stage.cpu_s:.4f}", f"{stage.wall_s:.4f}")
        rows.append((role, stage.on, f"{stage.calls:.2f}", *seconds, *(tokens if stage.on == "server" else ("",) * 3)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    scarcest_first = sorted(expected.bounds.items(), key=lambda one: one[1])
    allowed = ", ".join(f"{name} {rate:.3g}" for name, rate in scarcest_first)
    spread = "" if work.margin is None else f" (give or take {work.margin:.0%}, by the sample's spread)"
    lines = [
        f"a post, on average over {work.posts}, {work.failed} of them failed:",
        *table,
        "",
        f"{expected.posts:,} posts: {duration(expected.seconds)}{spread}, {expected.posts_per_s:.3g} posts/s",
        f"bound by: {expected.bound_by}; a batch of the sample ran at {expected.correction:.2f} of that bound",
        f"each resource allows, in posts/s: {allowed}",
        f"tokens: {expected.prompt_tokens:,.0f} in, {expected.completion_tokens:,.0f} out",
        f"money: {amount(expected.money)} {expected.currency}, {amount(expected.token_money)} of it for tokens",
    ]
    if work.load is not None and work.load > BUSY:
        lines.append(f"this machine was already busy (load {work.load:.1f} per core), which adds time")
    if work.unmetered:
        lines.append(f"{work.unmetered} answers came without token counts: the real number of tokens is higher")
    return "\n".join(lines)


def report(expected: Estimate, work: Work) -> dict[str, Any]:
    """Everything, JSON-able."""
    return {"estimate": {**expected.model_dump(), "money": expected.money}, "work": work.model_dump()}


def duration(seconds: float) -> str:
    """At most two units: `3 d 4 h`, `12 min 5 s`, `7.3 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // below)} {smaller}"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def amount(money: float) -> str:
    """An amount to the cent; amounts below one have two digits."""
    return f"{money:,.2f}" if money >= 1 else f"{money:.2g}"
