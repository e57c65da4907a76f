"""Counts the data that a form cannot hold, by kind and with example posts, so that every loss is reported."""

from collections import defaultdict
from dataclasses import dataclass, field

from namepin.evals.datasets.gold import Problem

_SHOWN = 5


@dataclass
class Losses:
    """Counts what one conversion changes or leaves out."""

    _posts: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def count_change(self, post_id: str, what: str) -> None:
        """Count data of a post that is changed; `what` names it in the plural."""
        self._posts["W132", what].append(post_id)

    def count_loss(self, post_id: str, what: str) -> None:
        """Count data of a post that is left out; `what` names it in the plural."""
        self._posts["E140", what].append(post_id)

    def problems(self, where: str) -> list[Problem]:
        """One problem per kind, with its count."""
        return [
            Problem(code, where, f"{len(ids)} {what} (in {_names(ids)})") for (code, what), ids in self._posts.items()
        ]


def _names(ids: list[str]) -> str:
    posts = list(dict.fromkeys(ids))
    shown = ", ".join(repr(post_id) for post_id in posts[:_SHOWN])
    more = f" and {len(posts) - _SHOWN} more" if len(posts) > _SHOWN else ""
    return f"post{'s' if len(posts) > 1 else ''} {shown}{more}"
