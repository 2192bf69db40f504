"""What the rulesets let through: real connections between real network namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.local.walls import agent
from tests.local.walls.lab import SERVICE, Lab, find_nft, lab
from tests.local.walls.objects import OUTSIDER, PODS, Object, policy

pytestmark = pytest.mark.dataplane

ADDRESSES = {name: each["status"]["podIP"] for name, each in PODS.items()} | {
    "outsider": OUTSIDER,
    "service": SERVICE,
}
EVERYTHING: Object = {}
DENY_ALL = policy("deny-all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
DENY_INGRESS = policy("deny-ingress", {"podSelector": {}})


@pytest.fixture(scope="module")
def node() -> Iterator[Lab]:
    with lab(find_nft()) as built:
        yield built


def app(name: str) -> Object:
    return {"matchLabels": {"app": name}}


def to_web(*rules: Any) -> Object:
    return policy("to-web", {"podSelector": app("web"), "ingress": list(rules)})


def from_web(*rules: Any) -> Object:
    spec = {"podSelector": app("web"), "policyTypes": ["Egress"], "egress": list(rules)}
    return policy("from-web", spec)


@dataclass(frozen=True)
class Case:
    """Policies, and what gets through and what does not: `source destination [protocol:]port`."""

    name: str
    policies: tuple[Object, ...]
    passes: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()


CASES = [
    Case("no policy", (), passes=("db web 8080", "outsider web 8080", "web far 8080")),
    Case(
        "default deny isolates both ways, and other namespaces not at all",
        (DENY_ALL,),
        passes=("probe dns 8080", "outsider probe 8080", "probe outsider 8080"),
        drops=("db web 8080", "probe web 8080", "web probe 8080", "web dns udp:53"),
    ),
    Case(
        "a policy of ingress leaves egress open",
        (DENY_INGRESS,),
        passes=("web probe 8080", "web outsider 8080"),
        drops=("probe web 8080", "db web 8080"),
    ),
    Case(
        "ingress is the business of the destination's node",
        (DENY_INGRESS,),
        passes=("web far 8080",),
        drops=("far web 8080",),
    ),
    Case(
        "an empty rule allows everybody",
        (DENY_INGRESS, to_web(EVERYTHING)),
        passes=("probe web 8080", "outsider web 8090"),
        drops=("web db 8080",),
    ),
    Case(
        "from namespaces by label",
        (to_web({"from": [{"namespaceSelector": {"matchLabels": {"team": "ops"}}}]}),),
        passes=("probe web 8080",),
        drops=("db web 8080", "dns web 8080", "outsider web 8080"),
    ),
    Case(
        "every namespace is every Pod, and nobody else",
        (to_web({"from": [{"namespaceSelector": {}}]}),),
        passes=("probe web 8080", "far web 8080"),
        drops=("outsider web 8080",),
    ),
    Case(
        "from Pods of the policy's own namespace",
        (to_web({"from": [{"podSelector": {}}]}),),
        passes=("db web 8080", "far web 8080"),
        drops=("probe web 8080",),
    ),
    Case(
        "Pods and namespace in one peer must both match",
        (to_web({"from": [{"namespaceSelector": {}, "podSelector": app("dns")}]}),),
        passes=("dns web 8080",),
        drops=("probe web 8080", "db web 8080"),
    ),
    Case(
        "several peers are alternatives",
        (to_web({"from": [{"podSelector": app("db")}, {"namespaceSelector": app("x")}]}),),
        passes=("db web 8080",),
        drops=("probe web 8080",),
    ),
    Case(
        "a peer that nobody is allows nobody",
        (to_web({"from": [{"podSelector": app("gone")}]}),),
        drops=("db web 8080", "probe web 8080"),
    ),
    Case(
        "one port",
        (to_web({"ports": [{"port": 8080}]}),),
        passes=("db web 8080",),
        drops=("db web 8081", "db web udp:53"),
    ),
    Case(
        "overlapping ranges of ports",
        (to_web({"ports": [{"port": 8000, "endPort": 8081}, {"port": 8080}]}),),
        passes=("db web 8080", "db web 8081"),
        drops=("db web 8090",),
    ),
    Case(
        "a port's name means what the destination declares, inwards",
        (to_web({"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}),),
        passes=("db web 8080", "far web 8080"),
        drops=("db web 8081", "probe web 8080"),
    ),
    Case(
        "a port's name means what the destination declares, outwards",
        (from_web({"to": [{"podSelector": {}}], "ports": [{"port": "http"}]}),),
        passes=("web db 8080", "web far 8081"),
        drops=("web db 8081", "web far 8080", "web probe 8080"),
    ),
    Case(
        "a protocol without a port",
        (to_web({"ports": [{"protocol": "UDP"}]}),),
        passes=("db web udp:53",),
        drops=("db web 8080",),
    ),
    Case(
        "a block of addresses less an exception",
        (to_web({"from": [{"ipBlock": {"cidr": "198.19.0.0/16", "except": ["198.19.1.3/32"]}}]}),),
        passes=("probe web 8080", "far web 8080"),
        drops=("db web 8080", "outsider web 8080"),
    ),
    Case(
        "out to a block of addresses",
        (from_web({"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}),),
        passes=("web outsider 8080", "db probe 8080"),
        drops=("web db 8080",),
    ),
    Case(
        "DNS alone, also through its Service",
        (
            DENY_ALL,
            policy(
                "dns",
                {
                    "podSelector": {},
                    "policyTypes": ["Egress"],
                    "egress": [
                        {
                            "to": [{"namespaceSelector": {}, "podSelector": app("dns")}],
                            "ports": [{"port": 53, "protocol": "UDP"}],
                        }
                    ],
                },
            ),
        ),
        passes=("web dns udp:53", "web service udp:53"),
        drops=("web dns 8080", "web probe udp:53"),
    ),
    Case(
        "several policies allow what any of them allows",
        (
            to_web({"from": [{"podSelector": app("db")}], "ports": [{"port": 8080}]}),
            policy(
                "more",
                {
                    "podSelector": {"matchLabels": {"tier": "front"}},
                    "ingress": [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 8081}]}],
                },
            ),
        ),
        passes=("db web 8080", "db web 8081", "probe web 8081"),
        drops=("probe web 8080", "outsider web 8081"),
    ),
    Case(
        "egress that is allowed still meets the destination's ingress",
        (from_web(EVERYTHING), DENY_INGRESS),
        passes=("web probe 8080",),
        drops=("web db 8080",),
    ),
    Case(
        "a Service is judged by the Pod and the port behind it",
        (to_web({"from": [{"podSelector": app("db")}], "ports": [{"port": 8080}]}),),
        passes=("db service 80",),
        drops=("probe service 80",),
    ),
    Case(
        "a Pod reaches itself through its Service, whatever the policies say",
        (DENY_ALL,),
        passes=("web service 80",),
        drops=("db service 80",),
    ),
]


def attempt(line: str) -> tuple[str, tuple[str, str, int]]:
    source, destination, port = line.split()
    protocol, _, number = port.rpartition(":")
    return source, (protocol or "tcp", ADDRESSES[destination], int(number))


def passing(node: Lab, lines: tuple[str, ...], seconds: float = agent.DROPPED_SECONDS) -> list[str]:
    """Those of the lines that get through in time."""
    found = []
    for host in dict.fromkeys(line.split()[0] for line in lines):
        own = [line for line in lines if line.split()[0] == host]
        results = node.hosts[host].reaches(*(attempt(line)[1] for line in own), seconds=seconds)
        found += [line for line, passed in zip(own, results, strict=True) if passed]
    return found


def all_pass(node: Lab, lines: tuple[str, ...]) -> bool:
    """Whether all of them do, however busy the machine is."""
    return set(passing(node, lines, agent.ANSWER_SECONDS)) == set(lines)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_lets_through_what_is_allowed_and_nothing_else(node: Lab, case: Case) -> None:
    node.load(*case.policies)
    assert all_pass(node, case.passes)
    assert passing(node, case.drops) == []


def test_probes_of_the_node_itself_always_pass(node: Lab) -> None:
    node.load(DENY_ALL)
    assert node.node.reaches(("tcp", ADDRESSES["web"], 8080)) == [True]


def test_a_connection_lives_on_under_a_policy_that_would_forbid_it(node: Lab) -> None:
    node.load()
    assert node.hosts["db"].ask("keep", (ADDRESSES["web"], 8080)) == [True]
    node.load(DENY_ALL)
    assert passing(node, ("db web 8080",)) == []
    assert node.hosts["db"].ask("use kept") == [True]


def test_a_policy_that_is_removed_opens_again(node: Lab) -> None:
    node.load(DENY_ALL)
    assert passing(node, ("db web 8080",)) == []
    node.load()
    assert all_pass(node, ("db web 8080",))


@pytest.mark.parametrize(
    ("policies", "passes", "drops"),
    [
        ([], ("db web 8080", "db probe 8080"), ()),
        ([DENY_INGRESS], ("db probe 8080",), ("db web 8080",)),
    ],
    ids=["open without policies", "closed where there are any"],
)
def test_a_pod_that_the_api_does_not_tell_of_yet(
    node: Lab, policies: list[Object], passes: tuple[str, ...], drops: tuple[str, ...]
) -> None:
    node.load(*policies, pods=[each for name, each in PODS.items() if name != "web"])
    assert all_pass(node, passes)
    assert passing(node, drops) == []


def test_a_service_without_endpoints_is_refused_as_kube_proxy_does_it(node: Lab) -> None:
    node.node.run(f"ip route replace {SERVICE}/32 dev veth0")  # kube-proxy's node has a way out
    node.run_nft(f"""
        table ip refusing {{
          chain forward {{
            type filter hook forward priority filter;
            ip daddr {SERVICE} tcp dport 81 reject
          }}
        }}
    """)
    node.load(DENY_ALL)  # after it: of equals, the kernel asks first who came last
    assert node.hosts["db"].ask("be refused", (SERVICE, 81)) == [True]
    node.run_nft("delete table ip refusing")
