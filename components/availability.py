"""What lets a Deployment survive the loss of a node or a zone without anybody's help."""

from __future__ import annotations

from typing import Final

from components import parts
from components.manifest import Document

REPLICAS: Final = 2
"""One that works and one that takes over at once; a third would only cost memory."""

TOLERATION_SECONDS: Final = 10
"""How long a Pod stays on a node that is marked lost; Kubernetes' default is 300 s.

A node is marked only after its whole grace period (40 s or more by default), so these Pods have
been without it for long already. Ten seconds more let a kubelet that was merely restarted come back
before anything is moved; with 300 s, there is one replica only for five minutes.
"""

PRIORITY_CLASS: Final = "system-cluster-critical"
"""What others need in order to recover is not evicted for a workload that needs it. Kubernetes' own
class, of two billion, is above all that a user may define."""


def survive_zone_loss(deployment: Document) -> Document:
    """Make a Deployment run twice, in two zones; returns the disruption budget it then needs.

    The Deployment is changed in place. All its replicas must be able to work side by side, or to
    elect a leader.
    """
    labels = deployment["spec"]["selector"]["matchLabels"]
    deployment["spec"]["replicas"] = REPLICAS
    # The new Pod must be ready before the old one goes: an update leaves two that work.
    deployment["spec"]["strategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    deployment["spec"]["template"]["spec"] |= {
        "priorityClassName": PRIORITY_CLASS,
        "dnsConfig": parts.dns(),
        "tolerations": parts.tolerations(TOLERATION_SECONDS),
        "topologySpreadConstraints": parts.spread(labels),
    }
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": deployment["metadata"]["name"],
            "namespace": deployment["metadata"]["namespace"],
        },
        "spec": parts.disruption_budget(labels),
    }
