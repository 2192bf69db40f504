"""The local AWS endpoint: start it or find it running, and end it.

It is a process of its own on the loopback interface (`local.aws_server`). Everything it needs to
come back as it was, after a stop or a kill, is in its folder.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from local.process import Process

HOST = "127.0.0.1"
READY_SECONDS = 120.0
"""Longest wait for readiness: 2 s of start on an idle machine, and the journal's length."""
ANSWER_SECONDS = 5.0

_PROJECT = Path(__file__).parent.parent
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Endpoint:
    """Where AWS is on this machine."""

    url: str

    def environment(self) -> dict[str, str]:
        """What AWS clients must be told; the credentials are dummies, the region is the stack's."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }


def start(folder: Path) -> None:
    """Start the endpoint of this folder if it does not run, without waiting until it is ready."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _process(folder).start(
        [sys.executable, "-m", "local.aws_server", str(folder)],
        {
            **os.environ,
            **Endpoint("").environment(),
            "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",  # roles attach AWS's own policies
            "PYTHONPATH": str(_PROJECT),
        },
        first=True,  # as the cloud's own, it does not wait for a cluster's nodes
    )


def ensure(folder: Path) -> Endpoint:
    """The endpoint of this folder, started if it does not run.

    Raises:
        LocalError: when it does not get ready; the end of its log is in the text.
    """
    start(folder)
    _process(folder).wait_until(lambda: status(folder) is not None, READY_SECONDS)
    return Endpoint(_url(folder))


def status(folder: Path) -> Endpoint | None:
    """The endpoint if it runs and answers, else None."""
    pid = _process(folder).pid()
    if pid is None:
        return None
    try:
        url = _url(folder)
        with _DIRECT.open(f"{url}/_ready", timeout=ANSWER_SECONDS) as answer:
            return Endpoint(url) if int(answer.read()) == pid else None
    except (OSError, ValueError):  # not listening yet, or somebody else does
        return None


def stop(folder: Path) -> None:
    """End it and wait until it is gone; what it holds stays in the folder."""
    _process(folder).stop()


def port_file(folder: Path) -> Path:
    """Where the endpoint of this folder writes its port, at every start."""
    return folder / "port"


def _process(folder: Path) -> Process:
    return Process("aws", folder)


def _url(folder: Path) -> str:
    return f"http://{HOST}:{int((folder / 'port').read_text())}"
