"""What-if settings of a replay. Some change the graph's policy; others change or remove a tool."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from namepin.graphs.policy import Policy
from namepin.graphs.roles import ROLES
from namepin.graphs.state import Json
from namepin.tools.errors import NamepinError


@dataclass(frozen=True)
class Overrides:
    """What-if settings: the policy's settings, and the roles whose tool is changed or removed.

    Attributes:
        policy: dotted key -> value.
        changed: roles with an overridden setting.
        off: roles whose tool is removed.
    """

    policy: Mapping[str, Any]
    changed: frozenset[str]
    off: frozenset[str]

    @classmethod
    def of(cls, sets: Mapping[str, Any]) -> "Overrides":
        """Split `key -> value` into settings of the policy and of tools.

        Raises:
            NamepinError: E404 for a key that is neither the policy's nor a tool's.
        """
        known = [f"{name}.{key}" for name, part in Policy() for key in type(part).model_fields]
        off = {key.partition(".")[0] for key, value in sets.items() if key.endswith(".backend") and value == "off"}
        policy = {key: value for key, value in sets.items() if key in known}
        changed = {key.partition(".")[0] for key in sets if key not in known}
        for key in sets:
            if key not in known and (key.partition(".")[0] not in ROLES or "." not in key):
                near = get_close_matches(key, known, n=1)
                mend = f"did you mean {near[0]}?" if near else f"it can set {', '.join(known)} and tools' own settings"
                raise NamepinError("E404", f"a replay cannot set {key!r}", where="--set", mend=mend)
        return cls(policy, frozenset(changed - off), frozenset(off))

    def policy_over(self, recorded: Json) -> Policy:
        """The recorded policy with the overrides in place.

        Raises:
            NamepinError: E404 for a value out of range.
        """
        table: dict[str, dict[str, Any]] = {name: dict(part) for name, part in recorded.items()}
        for key, value in self.policy.items():
            section, name = key.split(".")
            table.setdefault(section, {})[name] = value
        try:
            return Policy.model_validate(table)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            what = f"{where}: {first['msg']}, not {first['input']!r}"
            raise NamepinError("E404", what, where="--set", mend="give a value that fits") from error
