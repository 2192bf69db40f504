"""Run the stand-in until told to end: `python -m local.strimzi CLUSTER_FOLDER`."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path

from local.cluster import Cluster
from local.errors import LocalError
from local.strimzi.operator import WATCHED, Operator
from local.watch import Watched

LONGEST_SECONDS = 10.0
"""A failure is tried again after this long at the latest."""

_log = logging.getLogger(__name__)


def main(folder: Path) -> None:
    """Reconcile until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    cluster = Cluster(folder.name, folder)
    with Watched(cluster.api, WATCHED) as watched:
        operator = Operator(watched, folder / "strimzi")
        for _ in watched.changes(LONGEST_SECONDS):
            try:
                with cluster.api() as api:  # anew, as the server may have moved to another port
                    operator.reconcile(api)
            except LocalError as error:
                _log.warning("%s", error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
