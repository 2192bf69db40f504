"""What can be wrong with a process on purpose, and what is now."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from urllib.parse import parse_qsl

SECONDS = (30.0, 0.1, 600.0)
FAULTS: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "slow": {"ms": (500, 1, 600_000)},  # each unit of work first waits
    "fail": {"rate": (1, 0, 1), "status": (500, 400, 599)},  # this share of work is refused
    "hang": {},  # work is never answered
    "stuck": {},  # the process's own loop stands still: liveness fails
    "unready": {},  # readiness fails
    "leak": {"mib": (64, 1, 65_536)},  # this much memory is held
    "crash": {},  # the process ends at once
}
"""What can be wrong, and with which parameters: the default, the least and the most. `SECONDS` is
one more of each."""


def fault_of(query: str) -> tuple[str, dict[str, float]]:
    """Read a fault's kind and parameters; ValueError if they are none of `FAULTS`."""
    given = dict(parse_qsl(query))
    kind = given.pop("kind", "")
    if kind not in FAULTS:
        raise ValueError(f"kind is {kind or 'missing'}; there are {', '.join(FAULTS)}")
    bounds = {**FAULTS[kind], "seconds": SECONDS}
    if unknown := set(given) - set(bounds):
        raise ValueError(f"{kind} has no {', '.join(sorted(unknown))}")
    values = {name: float(given.get(name, default)) for name, (default, _, _) in bounds.items()}
    for name, (_, least, most) in bounds.items():
        if not least <= values[name] <= most:
            raise ValueError(f"{name} is {given[name]}; it is between {least:g} and {most:g}")
    return kind, values


class Faults:
    """What is wrong now; at most one fault of each kind, each with its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: dict[str, tuple[float, dict[str, float], bytes]] = {}

    def begin(self, kind: str, values: dict[str, float]) -> None:
        """Begin a fault; one of the same kind is replaced."""
        # Written to, because untouched pages take no memory.
        ballast = b"x" * (int(values.get("mib", 0)) * 2**20)
        with self._lock:
            self._active[kind] = (time.monotonic() + values["seconds"], values, ballast)

    def end_all(self) -> None:
        """End every fault."""
        with self._lock:
            self._active.clear()

    def get(self, kind: str) -> dict[str, float] | None:
        """The parameters of a fault that is active."""
        return self.active().get(kind)

    def active(self) -> dict[str, dict[str, float]]:
        """Parameters by kind; what has ended is forgotten, its memory included."""
        now = time.monotonic()
        with self._lock:
            self._active = {kind: fault for kind, fault in self._active.items() if fault[0] > now}
            return {kind: values for kind, (_, values, _) in self._active.items()}
