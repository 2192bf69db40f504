"""A stack whose zone is gone, asked system by system what still decides and takes writes.

Each system is asked as its clients would ask it, in what is left of the cluster.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from drills.faults import Pod
from drills.kube import Kube
from drills.stores import Kafka, Redis
from local.errors import LocalError

MARGIN_SECONDS = 60.0
"""Beyond what the matrix allows a failover: a question may be on its way to what has just died, and
each takes seconds on a busy machine."""

Verdict = Mapping[str, Any]
"""A row of build/survival-<stack>.json."""
Question = Callable[[], object]
_SENTINEL = '. "$REDIS_CONFIG/lib.sh"; ask $here sentinel'
_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 7687), 3)
except OSError as error:
    print(repr(error))
"""
_PRODUCE = """
import os, sys, time
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
folder = "/etc/kafka-secrets"
own = f"{folder}/{os.environ['NAME']}.pem"
access = {
    "bootstrap.servers": sys.argv[1],
    "security.protocol": "ssl",
    "ssl.ca.location": f"{folder}/ca.crt",
    "ssl.certificate.location": own,
    "ssl.key.location": own,
}
if sys.argv[2] == "decide":
    admin = AdminClient(access)
    # A topic of its own: one whose answer nobody waited for any more may be there.
    topic = f"survival-{time.time_ns()}"
    for done in admin.create_topics([NewTopic(topic, 1, 2)], operation_timeout=5).values():
        done.result(8)
    for done in admin.delete_topics([topic], operation_timeout=5).values():
        done.result(8)
else:
    errors = []
    producer = Producer({**access, "acks": "all", "delivery.timeout.ms": 8000})
    producer.produce("drill", value="0", partition=0, on_delivery=lambda e, _: errors.append(e))
    producer.flush(10)
    assert errors == [None], errors
"""


class LostError(LocalError):
    """A system's own no: nobody answers for it, or somebody who may not decide or write."""


@dataclass(frozen=True)
class Rest:
    """What is left of a stack's cluster."""

    kube: Kube
    data: str
    """The namespace of the data systems."""
    gone: str = ""
    """The node that is not there any more."""

    def pods(self, namespace: str, labels: str) -> list[Pod]:
        """The Pods with these labels that are Ready, and not where nothing runs any more."""
        found = self.kube.ready_pods(namespace, labels)
        return [each for each in found if each.node != self.gone]

    def one(self, namespace: str, labels: str) -> Pod:
        """The first of them.

        Raises:
            LocalError: if there is none.
        """
        for each in self.pods(namespace, labels):
            return each
        raise LocalError(f"no Pod with {labels} is left")

    def asks(self, verdict: Verdict) -> tuple[Question, Question]:
        """How to ask a system whether it can decide, and whether it acknowledges a write.

        The questions raise `LostError` where the answer is no, and `LocalError` where there is
        none: what failed may be the asking.
        """
        match verdict["system"]:
            case "postgres":
                return self._primary, self._commit
            case "redis":
                return self._vote, self._set
            case "kafka":
                return lambda: self._kafka("decide"), lambda: self._kafka("write")
            case "neo4j":
                return self._connect, self._connect
            case "service":
                # It has no quorum: any replica serves alone.
                return lambda: None, lambda: self._serve(verdict["name"])
        raise LookupError(f"nobody knows how to ask {verdict['system']}")

    def _primary(self) -> Pod:
        path = f"/apis/postgresql.cnpg.io/v1/namespaces/{self.data}/clusters/postgres"
        status = self.kube.api.get(path)["status"]
        pod = self.kube.pod(self.data, status["currentPrimary"])
        if pod.node == self.gone or status["targetPrimary"] != pod.name:
            raise LostError(f"{pod.name} has no successor yet")
        return pod

    def _commit(self) -> None:
        """Commit what waits for a standby as a row would, and leaves nothing."""
        commit = "select pg_logical_emit_message(true, 'survival', '')"
        self.kube.execute(self._primary(), "postgres", ["psql", "--command", commit])

    def _sentinel(self) -> Pod:
        return self.one(self.data, "app.kubernetes.io/name=redis-sentinel")

    def _redis(self, pod: Pod, script: str) -> str:
        answer = self.kube.execute(pod, "redis", ["sh", "-c", script]).strip()
        if answer.startswith(("NO", "(error)", "ERR")):
            raise LostError(answer)
        return answer

    def _vote(self) -> None:
        self._redis(self._sentinel(), f"{_SENTINEL} ckquorum redis")

    def _set(self) -> None:
        master = Redis(self.kube, self.data, "redis").leader()
        if master.node == self.gone:
            raise LostError(f"{master.name} has no successor yet")
        answer = self._redis(master, '. "$REDIS_CONFIG/lib.sh"; ask $here set survival 1')
        if answer != "OK":
            raise LostError(f"a write was answered by {answer}")

    def _kafka(self, what: str) -> None:
        broker = self.one(self.data, "strimzi.io/cluster=kafka,strimzi.io/broker-role=true")
        address = f"{broker.name}.kafka-kafka-brokers.{self.data}.svc:9091"
        self.kube.execute(broker, "kafka", ["python3", "-c", _PRODUCE, address, what], 30)

    def _connect(self) -> None:
        """Connect from a service that uses it."""
        client = self.one(self.data.replace("-data", "-standard"), f"{_NAME}=deck-analytics")
        host = f"neo4j.{self.data}.svc.cluster.local"
        refusal = self.kube.execute(client, "deck-analytics", ["python3", "-c", _CONNECT, host])
        if refusal:
            raise LostError(f"{host}: {refusal.strip()}")

    def _serve(self, name: str) -> None:
        namespace, _, service = name.partition("/")
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{service}"
        wanted = self.kube.api.get(path)["spec"]["replicas"]
        left = len(self.pods(namespace, f"{_NAME}={service}"))
        if 2 * left < wanted:
            raise LostError(f"{left} of {wanted} {service} are left")


_NAME = "app.kubernetes.io/name"


def prepare(kube: Kube, data: str) -> None:
    """Make what is written to."""
    Kafka(kube, data, "kafka").admit(data.replace("-data", "-core"), "simulation-engine")


def truth(rest: Rest, verdicts: Iterable[Verdict], since: float) -> dict[str, tuple[bool, bool]]:
    """By system: whether it decides and whether it takes writes, in the time that it may take.

    What is said to be lost is asked last, until it says so itself: by then, it had as much time as
    the others.

    Args:
        rest: what is left.
        verdicts: rows of the matrix, whose seconds are waited for and not more.
        since: when the zone was taken away, on the monotonic clock.
    """
    found = {}
    for each in sorted(verdicts, key=lambda verdict: verdict["rto_seconds"] or float("inf")):
        decides, writes = rest.asks(each)
        if rest.gone and not (each["quorum"] or each["writes"]):
            found[each["name"]] = (_answers(decides), _answers(writes))
        else:
            deadline = since + (each["rto_seconds"] or 0) + MARGIN_SECONDS
            found[each["name"]] = (_in_time(decides, deadline), _in_time(writes, deadline))
    return found


def _answers(question: Question) -> bool:
    """Whether what is said to be lost says yes after all; trouble in asking is no answer."""
    deadline = time.monotonic() + MARGIN_SECONDS
    while True:
        try:
            question()
        except LostError:
            return False
        except LocalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return True


def _in_time(question: Question, deadline: float) -> bool:
    while True:
        try:
            question()
        except LocalError as error:
            if time.monotonic() > deadline:
                sys.stderr.write(f"{error}\n")  # for whoever reads that it should have been yes
                return False
            time.sleep(1)
        else:
            return True
