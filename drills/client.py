"""The Pod that runs a load client: where it is put, how its results come back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drills.account import Attempt, Key, parse, parse_stored
from drills.faults import Pod
from drills.kube import Kube
from drills.load.attempts import OK, STUCK, WRITE
from drills.stores import Store
from local.errors import LocalError

_CONTAINER = "client"
_FILES = Path(__file__).parent / "load"
_CODE, _OUT = "/code", "/out"
_SAID = "driver.log"
_USER = 65_532
_START_SECONDS, _READ_SECONDS, _STORED_SECONDS = 90.0, 120.0, 60.0
_STOP_SECONDS = 150.0
"""More than the 120 s after which a producer of Kafka gives a record up."""
_POLL_SECONDS = 0.5
_LIVES_SECONDS = 7200
"""How long the container stays after its load, so that its results can be read."""


@dataclass(frozen=True)
class Place:
    """Where clients of the platform run."""

    namespace: str
    workload: str
    """A service that may connect to the stores; the client shows its label at their walls."""
    image: str
    """With Python and the drivers."""


@dataclass(frozen=True)
class Client:
    """One load client, running."""

    kube: Kube
    pod: Pod
    module: str

    def stop(self) -> None:
        """End the load, and wait until its last attempt is written down.

        Raises:
            LocalError: if it had ended by itself: nobody knows what the store did since then; or if
                an attempt of it never ended.
        """
        if self._exit():
            raise LocalError(f"{self.pod.name} ended before it was told to")
        self._run("touch", f"{_OUT}/stop")
        deadline = time.monotonic() + _STOP_SECONDS
        while not self._exit():
            _wait(deadline, f"{self.pod.name} did not stop within {_STOP_SECONDS:.0f} s")
        if stuck := self._read(STUCK):
            raise LocalError(f"attempts of {self.pod.name} never ended; they stand at\n{stuck}")

    def attempts(self) -> list[Attempt]:
        """All it did."""
        return parse(self._run("cat", f"{_OUT}/attempts.log"))

    def said(self) -> str:
        """What its driver wrote down of its connections, and of what went wrong.

        It explains figures, and is none: if it cannot be had, it says so.
        """
        try:
            return self._read(_SAID)
        except LocalError as error:
            return f"not known: {error}\n"

    def stored(self) -> list[Key]:
        """What the store holds now, read as any client reads: again, if the store breaks it off.

        Raises:
            LocalError: if it could not be read within `_STORED_SECONDS`.
        """
        deadline = time.monotonic() + _STORED_SECONDS
        while True:
            try:
                return parse_stored(self._run("python3", "-m", self.module, "stored"))
            except LocalError as error:
                _wait(deadline, f"what is stored cannot be read: {error}")

    def remove(self) -> None:
        """End it at once."""
        self.kube.api.delete(
            f"/api/v1/namespaces/{self.pod.namespace}/pods/{self.pod.name}?gracePeriodSeconds=0"
        )

    def _exit(self) -> str:
        """The exit code of its load, empty as long as it goes on."""
        return self._read("exit")

    def _read(self, file: str) -> str:
        """A file of its results, empty if there is none."""
        return self._run("sh", "-c", f"cat {_OUT}/{file} 2>/dev/null || true")

    def _run(self, *command: str) -> str:
        return self.kube.execute(self.pod, _CONTAINER, command, _READ_SECONDS)


def start(kube: Kube, place: Place, node: str, store: Store, options: Sequence[str]) -> Client:
    """Start a client on a node, with an empty table of its own, and wait until it loads.

    Raises:
        LocalError: if nothing was acknowledged within `_START_SECONDS`.
    """
    pods, maps = (f"/api/v1/namespaces/{place.namespace}/{kind}" for kind in ("pods", "configmaps"))
    name = name_of(store)
    for path in (f"{pods}/{name}?gracePeriodSeconds=0", f"{maps}/{name}"):
        kube.api.delete(path)
    code = {path.name: path.read_text() for path in sorted(_FILES.glob("*.py"))}
    kube.api.create(maps, {"metadata": {"name": name}, "data": code})
    deadline = time.monotonic() + _START_SECONDS
    while not kube.api.create(pods, manifest(place, node, store, options)):
        _wait(deadline, "the load client of an earlier run is not gone")
    try:
        client = Client(kube, kube.pod(place.namespace, name), store.client)
        _await_success(client, deadline)
    except BaseException:  # Ctrl-C too: nobody else would end it
        kube.api.delete(f"{pods}/{name}?gracePeriodSeconds=0")
        raise
    return client


def _await_success(client: Client, deadline: float) -> None:
    while True:
        try:
            # A read too may succeed, of nothing, where nobody takes writes.
            if any(each.outcome == OK and each.kind == WRITE for each in client.attempts()):
                return
        except LocalError as error:
            _wait(deadline, f"the load client does not start: {error}")
        else:
            _wait(deadline, "the store acknowledged nothing")


def name_of(store: Store) -> str:
    """Of the client's Pod: several stores may be loaded at once."""
    return f"drill-client-{store.client.rpartition('.')[2]}"


def _wait(deadline: float, problem: str) -> None:
    if time.monotonic() > deadline:
        raise LocalError(problem)
    time.sleep(_POLL_SECONDS)


def manifest(place: Place, node: str, store: Store, options: Sequence[str]) -> dict[str, Any]:
    """The Pod. It is never Ready, so that no Service of the workload sends it requests."""
    client = f"python3 -m {store.client}"
    script = (
        # The fault before may have left a pooler or two that must find the leader first.
        f"until {client} prepare; do sleep 1; done; "
        f"{client} run --folder {_OUT} {' '.join(options)} 2>{_OUT}/{_SAID}; "
        f"echo $? > {_OUT}/exit; exec sleep {_LIVES_SECONDS}"
    )
    return {
        "metadata": {"name": name_of(store), "labels": {"app.kubernetes.io/name": place.workload}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": _CONTAINER,
                    "image": place.image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", script],
                    "envFrom": [{"configMapRef": {"name": store.connection}}],
                    "env": [
                        {"name": "PYTHONPATH", "value": _CODE},
                        {"name": "RES_OPTIONS", "value": "timeout:1 attempts:2"},
                        *_login(store.connection),
                    ],
                    "readinessProbe": {"exec": {"command": ["false"]}},
                    "resources": _resources("50m", "128Mi"),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                    "volumeMounts": [
                        {"name": "code", "mountPath": f"{_CODE}/drills/load", "readOnly": True},
                        {"name": "out", "mountPath": _OUT},
                    ],
                }
            ],
            "volumes": [
                {"name": "code", "configMap": {"name": name_of(store)}},
                {"name": "out", "emptyDir": {"sizeLimit": "256Mi"}},
            ],
        },
    }


def _login(connection: str) -> list[Mapping[str, Any]]:
    """Name user and password as each driver reads them."""
    keys = {
        "PGUSER": "username",
        "PGPASSWORD": "password",
        "REDIS_USERNAME": "username",
        "REDIS_PASSWORD": "password",
        "KAFKA_USERNAME": "username",
        "KAFKA_PASSWORD": "password",
    }
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": connection, "key": key}}}
        for name, key in keys.items()
    ]


def _resources(cpu: str, memory: str) -> dict[str, dict[str, str]]:
    storage = {"ephemeral-storage": "300Mi"}
    return {
        "requests": {"cpu": cpu, "memory": memory, **storage},
        "limits": {"cpu": "1", "memory": memory, **storage},
    }
