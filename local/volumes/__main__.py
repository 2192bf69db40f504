"""Serve a cluster's claims and snapshots until told to end: `python -m local.volumes FOLDER`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

from filelock import FileLock

from local.cluster import Cluster
from local.volumes import claims, snapshots
from local.volumes.folders import Folders
from local.volumes.service import WATCHED, Service
from local.watch import Watched

PROVISIONER = "ebs.csi.aws.com"
"""What the platform's StorageClass asks for, so that it is the same here as in the cloud."""
LONGEST_SECONDS = 10.0
"""A failure is tried again after this long at the latest."""


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM; a second run on the same folder waits for the first to end."""
    parser = argparse.ArgumentParser(prog="local.volumes", description=__doc__)
    parser.add_argument("folder", type=Path, help="the cluster's folder")
    parser.add_argument("--provisioner", default=PROVISIONER)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = options.folder.resolve()
    with FileLock(folder / f"volumes-{options.provisioner}.lock"):
        run(Cluster(folder.name, folder), options.provisioner)


def run(cluster: Cluster, provisioner: str) -> None:
    """Serve a cluster whose folder nobody else serves under this name."""
    with Watched(cluster.api, WATCHED) as watched:
        for _ in watched.changes(LONGEST_SECONDS):
            with cluster.api() as api:  # anew, as the server may have moved to another port
                service = Service(api, watched, Folders(cluster.folder), provisioner)
                claims.serve(service)
                snapshots.serve(service)


if __name__ == "__main__":
    main(sys.argv[1:])
