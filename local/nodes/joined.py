"""Real nodes, and a crowd of simulated ones that may join them."""

from __future__ import annotations

from dataclasses import dataclass

from local.api import Api
from local.nodes import Surroundings
from local.nodes.real import RealNodes
from local.nodes.simulated import SimulatedNodes


@dataclass(frozen=True)
class JoinedNodes:
    """Both kinds as one: containers run on the real ones alone."""

    real: RealNodes
    crowd: SimulatedNodes

    def surroundings(self) -> Surroundings:
        """Where the real ones are: nobody needs to reach the others."""
        return self.real.surroundings()

    def start(self, api: Api) -> None:
        """Bring both up, or mend them."""
        self.real.start(api)
        self.crowd.start(api)

    def await_ready(self, api: Api, limit: float) -> None:
        """Wait until all are Ready, at most `limit` seconds for each kind."""
        self.real.await_ready(api, limit)
        self.crowd.await_ready(api, limit)
