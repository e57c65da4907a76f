"""The profiles of a conversation or a server; each is built once, at its first use."""

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cachetools import LRUCache

from namepin.agent.api import Namepin
from namepin.agent.config.settings import load_settings
from namepin.tools.errors import NamepinError

_KEPT = 4
"""Number of profiles with overrides that stay built; each may hold its own models."""


class ProfilePool:
    """`Namepin`s by profile and overrides. Overrides of the policy alone share the profile's tools.

    Args:
        profiles: the offered names; the first is the default.
        assignments: `--set` flags, applied to every profile that has these settings.
    """

    def __init__(self, profiles: Sequence[str], assignments: Sequence[str] = ()) -> None:
        self.profiles, self.assignments = tuple(profiles), tuple(assignments)
        self._built: LRUCache[str, Namepin] = LRUCache(max(_KEPT, len(self.profiles)))
        self._lock = threading.Lock()

    def get(self, profile: str, overrides: Mapping[str, Any] | None = None) -> Namepin:
        """The profile's `Namepin`.

        Raises:
            NamepinError: E200 for a profile outside `profiles`; as `load_settings` for the overrides.
        """
        if profile not in self.profiles:
            raise NamepinError(
                "E200", f"profile {profile!r} is not offered here", mend=f"choose one of {', '.join(self.profiles)}"
            )
        settings = load_settings(profile, assignments=self.assignments, overrides=overrides or {})
        key = json.dumps(settings.dump(), sort_keys=True, default=str)
        with self._lock:
            if key not in self._built:
                twin = next((pin for pin in self._built.values() if pin.settings.tools == settings.tools), None)
                self._built[key] = Namepin(settings, twin.calls if twin else None)
            return self._built[key]
