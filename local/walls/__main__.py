"""The process that enforces NetworkPolicies: `python -m local.walls CLUSTER_FOLDER`."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

from local.cluster import Cluster
from local.walls.enforcer import enforce, into_nodes


def main(folder: Path) -> None:
    """Enforce until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    enforce(Cluster(folder.name, folder).api, into_nodes(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
