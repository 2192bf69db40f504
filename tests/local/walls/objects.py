"""The Pods, namespaces and nodes that these tests are about."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

NODE = "node-1"
OUTSIDER = "203.0.113.9"
"""An address that no Pod has."""


def pod(namespace: str, name: str, address: str, node: str = NODE, **labels: str) -> Object:
    """A running Pod with a port of its own choice behind the name `http`."""
    port = 8080 if node == NODE else 8081
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name, **labels}},
        "spec": {
            "nodeName": node,
            "containers": [{"ports": [{"name": "http", "containerPort": port}]}],
        },
        "status": {"phase": "Running", "podIP": address},
    }


def namespace(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **labels}}}


def policy(name: str, spec: Object, of: str = "shop") -> Object:
    return {"metadata": {"namespace": of, "name": name}, "spec": spec}


def node(name: str, pods: str | None) -> Object:
    return {"metadata": {"name": name}, "spec": {"podCIDR": pods} if pods else {}}


PODS = {
    "web": pod("shop", "web", "198.19.1.2", tier="front"),
    "db": pod("shop", "db", "198.19.1.3"),
    "probe": pod("ops", "probe", "198.19.1.4"),
    "dns": pod("kube-system", "dns", "198.19.1.5"),
    "far": pod("shop", "far", "198.19.2.2", node="node-2"),
}
NAMESPACES = [namespace("shop"), namespace("ops", team="ops"), namespace("kube-system")]
NODES = [node(NODE, "198.19.1.0/24"), node("node-2", "198.19.2.0/24")]
