"""Hand the way into a data system to its clients: where it is, and the password.

A Pod can read Secrets of its own namespace alone, so each namespace with clients gets a copy.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap, Secret
from pulumi_random import RandomPassword

from components import parts
from components.parts import Client


def password(resource: str, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """Generate a password once, and keep it secret: letters and digits, which need no quoting."""
    generated = RandomPassword(resource, length=32, special=False, opts=opts)
    return pulumi.Output.secret(generated.result)


def encoded(value: pulumi.Output[str]) -> pulumi.Output[str]:
    """Encode a value for `data` of a Secret; it stays secret.

    `stringData` would do without, but the API server stores `data`, and the difference would look
    like drift.
    """
    return value.apply(lambda text: base64.b64encode(text.encode()).decode())


def publish(
    name: str,
    clients: Iterable[Client],
    environment: Mapping[str, str],
    credentials: Mapping[str, pulumi.Output[str]],
    parent: pulumi.Resource,
) -> str:
    """Create a ConfigMap and a Secret of one name in every namespace that has clients.

    Args:
        name: of the data system.
        clients: who connects to it.
        environment: where it is, as environment variables.
        credentials: what goes into the Secret, in clear.
        parent: the component that they belong to.

    Returns:
        The name of the ConfigMap and of the Secret.
    """
    published = f"{name}-client"
    child = pulumi.ResourceOptions(parent=parent)
    data = {key: encoded(value) for key, value in credentials.items()}
    for namespace in sorted({client.namespace for client in clients}):
        metadata = parts.metadata(published, namespace, parts.labels(name, "client"))
        ConfigMap(
            f"{name}-{namespace}-connection", metadata=metadata, data=dict(environment), opts=child
        )
        Secret(f"{name}-{namespace}-credentials", metadata=metadata, data=data, opts=child)
    return published
