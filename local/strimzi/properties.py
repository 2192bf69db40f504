"""What each Kafka server is told: its `server.properties`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.errors import LocalError

Object = Mapping[str, Any]

CONTROL, REPLICATION = "CONTROLPLANE-9090", "REPLICATION-9091"
CONTROL_PORT, REPLICATION_PORT = 9090, 9091
SECRETS, DATA = "/etc/kafka-secrets", "/var/lib/kafka"
BROKER, CONTROLLER = "broker", "controller"


@dataclass(frozen=True)
class Server:
    """One server of a pool; its number is unique in the cluster."""

    name: str
    number: int
    roles: Sequence[str]
    folders: Sequence[str]
    """Where its volumes are."""


def render(kafka: Object, servers: Sequence[Server], server: Server) -> str:
    """The file of one server.

    Args:
        kafka: the `Kafka` object.
        servers: all of the cluster.
        server: one of them.

    Raises:
        LocalError: if it declares what the stand-in does not know.
    """
    spec = kafka["spec"]["kafka"]
    voters = [s for s in servers if CONTROLLER in s.roles]
    lines = {
        **{key: _text(value) for key, value in spec.get("config", {}).items()},
        "node.id": str(server.number),
        "process.roles": ",".join(sorted(server.roles)),
        "log.dirs": ",".join(f"{folder}/kafka-log{server.number}" for folder in server.folders),
        "controller.quorum.voters": ",".join(
            f"{voter.number}@{address(kafka, voter.name)}:{CONTROL_PORT}" for voter in voters
        ),
        "controller.listener.names": CONTROL,
        **_identity(server),
        **_listeners(kafka, server),
        **_authorization(kafka),
    }
    if BROKER in server.roles:
        lines["inter.broker.listener.name"] = REPLICATION
        if "rack" in spec:
            lines["broker.rack"] = "${env:ZONE}"
            lines["config.providers"] = "env"
            lines["config.providers.env.class"] = (
                "org.apache.kafka.common.config.provider.EnvVarConfigProvider"
            )
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def address(kafka: Object, server: str) -> str:
    """The name by which servers and clients reach one server."""
    metadata = kafka["metadata"]
    return f"{server}.{metadata['name']}-kafka-brokers.{metadata['namespace']}.svc"


def internal(kafka: Object) -> list[Object]:
    """The listeners inside the cluster."""
    return [each for each in kafka["spec"]["kafka"]["listeners"] if each["type"] == "internal"]


def servers_identity(kafka: Object) -> str:
    """The common name in the certificates of the servers."""
    return f"{kafka['metadata']['name']}-kafka"


def operator_identity(kafka: Object) -> str:
    """The common name in the certificate of whoever makes topics and users."""
    return f"{kafka['metadata']['name']}-entity-operator"


def _identity(server: Server) -> dict[str, str]:
    """Key and certificates, for the listeners between servers and for those of clients."""
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": f"{SECRETS}/{server.name}.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": f"{SECRETS}/ca.crt",
        **{
            f"listener.name.{name.lower()}.ssl.client.auth": "required"
            for name in (CONTROL, REPLICATION)
        },
    }


def _listeners(kafka: Object, server: Server) -> dict[str, str]:
    ports, protocols = {}, {CONTROL: "SSL"}
    if CONTROLLER in server.roles:
        ports[CONTROL] = CONTROL_PORT
    found: dict[str, str] = {}
    if BROKER in server.roles:
        ports[REPLICATION], protocols[REPLICATION] = REPLICATION_PORT, "SSL"
        for listener in internal(kafka):
            # As Strimzi calls it inside Kafka.
            name = f"{listener['name'].upper()}-{listener['port']}"
            ports[name] = listener["port"]
            protocols[name], more = _protocol(name, listener)
            found |= more
    host = address(kafka, server.name)
    return {
        "listeners": ",".join(f"{name}://0.0.0.0:{port}" for name, port in ports.items()),
        "advertised.listeners": ",".join(f"{name}://{host}:{port}" for name, port in ports.items()),
        "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
        **found,
    }


def _protocol(name: str, listener: Object) -> tuple[str, dict[str, str]]:
    """The security protocol of a listener of clients, and what else it needs."""
    if "brokerCertChainAndKey" in listener.get("configuration", {}):
        raise LocalError(f"listener {listener['name']}: only Strimzi's own certificates work here")
    transport = "SSL" if listener["tls"] else "PLAINTEXT"
    kind = listener.get("authentication", {}).get("type")
    if kind is None:
        return transport, {}
    if kind != "scram-sha-512":
        raise LocalError(f"listener {listener['name']}: authentication {kind} is not possible here")
    prefix = f"listener.name.{name.lower()}"
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    return f"SASL_{transport}", {
        f"{prefix}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"{prefix}.scram-sha-512.sasl.jaas.config": f"{module} required;",
    }


def _authorization(kafka: Object) -> dict[str, str]:
    declared = kafka["spec"]["kafka"].get("authorization")
    if declared is None:
        return {}
    if declared["type"] != "simple":
        raise LocalError(f"authorization {declared['type']} is not possible here: use simple")
    own = [f"CN={servers_identity(kafka)}", f"CN={operator_identity(kafka)}"]
    users = [f"User:{name}" for name in (*own, *declared.get("superUsers", []))]
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": ";".join(users),
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
