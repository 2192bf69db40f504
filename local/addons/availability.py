"""What lets a Deployment survive the loss of a node or a zone without anybody's help."""

from __future__ import annotations

from local.addons.manifest import Document

REPLICAS = 2
"""One that works and one that takes over at once; a third would only cost memory."""

TOLERATION_SECONDS = 10
"""How long a Pod stays on a node that is marked lost; Kubernetes' default is 300 s.

A node is marked only after its whole grace period (40 s or more by default), so these Pods have
been without it for long already. Ten seconds more let a kubelet that was merely restarted come back
before anything is moved; with 300 s, there is one replica only for five minutes.
"""

ZONE = "topology.kubernetes.io/zone"


def survive_zone_loss(deployment: Document) -> Document:
    """Make a Deployment run twice, in two zones; returns the disruption budget it then needs.

    The Deployment is changed in place. All its replicas must be able to work side by side, or to
    elect a leader.
    """
    selector = deployment["spec"]["selector"]
    deployment["spec"]["replicas"] = REPLICAS
    # The new Pod must be ready before the old one goes: an update leaves two that work.
    deployment["spec"]["strategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    deployment["spec"]["template"]["spec"] |= {
        # What others need in order to recover is not evicted for a workload that needs it.
        "priorityClassName": "system-cluster-critical",
        "tolerations": [_leave_soon("not-ready"), _leave_soon("unreachable")],
        "topologySpreadConstraints": [_spread(selector)],
    }
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": deployment["metadata"]["name"],
            "namespace": deployment["metadata"]["namespace"],
        },
        "spec": {
            "maxUnavailable": 1,
            "selector": selector,
            # A Pod that does not work protects nothing, and must not block a node's drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _leave_soon(condition: str) -> Document:
    return {
        "key": f"node.kubernetes.io/{condition}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": TOLERATION_SECONDS,
    }


def _spread(selector: Document) -> Document:
    return {
        "maxSkew": 1,
        "topologyKey": ZONE,
        # Two replicas that one zone takes along are no better than one.
        "whenUnsatisfiable": "DoNotSchedule",
        # A zone whose nodes are all lost is no place to keep free for a replica.
        "nodeTaintsPolicy": "Honor",
        "labelSelector": selector,
        # Count each revision for itself, or an update is stuck between the old one's Pods.
        "matchLabelKeys": ["pod-template-hash"],
    }
