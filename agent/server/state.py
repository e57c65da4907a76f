"""The state that all requests of one server share."""

from dataclasses import dataclass, field
from pathlib import Path

from namepin.agent.config.sections import ServeSettings
from namepin.agent.server.access import Access
from namepin.agent.server.admission import Admission
from namepin.agent.server.jobs import Jobs
from namepin.agent.server.reviews import Reviews
from namepin.agent.stores.heat_maps import HeatMaps
from namepin.agent.stores.profile_pool import ProfilePool


@dataclass
class ServerState:
    """The server's parts.

    Attributes:
        settings: its bounds.
        pins: the offered profiles; the first is the default.
        access: access control.
        jobs: batch jobs.
        reviews: posts that wait for a person.
        heat: heat maps of results, for the page.
        folder: folder of conversations, pictures and jobs.
        admissions: profile -> its turns.
    """

    settings: ServeSettings
    pins: ProfilePool
    access: Access
    jobs: Jobs
    reviews: Reviews
    heat: HeatMaps
    folder: Path
    admissions: dict[str, Admission] = field(default_factory=dict)

    def admission(self, profile: str) -> Admission:
        """The turns of one profile."""
        if profile not in self.admissions:
            serve = self.settings
            self.admissions[profile] = Admission(serve.at_once, serve.waiting, serve.asking)
        return self.admissions[profile]
