"""Rules of meshes and of buckets through the real analyzer: what only looks as if it kept them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies import manifests
from policies.cli import LEVELS, STACKS
from policies.rules import RULES
from tests.policies.analyzer_session import UNKNOWN, Diagnostic, Session

pytestmark = pytest.mark.unit

Fields = dict[str, Any]


def judged(analyzer: Session, *changes: manifests.Manifest) -> list[Diagnostic]:
    """What is said of the baseline with these changes."""
    return analyzer.judge(manifests.changed(manifests.baseline(), changes))


def broken(analyzer: Session, *changes: manifests.Manifest) -> set[str]:
    """The rules that the baseline breaks with these changes."""
    found = judged(analyzer, *changes)
    assert [each for each in found if "could not be judged" in each.message] == []
    return {each.rule for each in found}


def arena(kind: str, spec: Fields, name: str = "arena") -> manifests.Manifest:
    """A change of an object of the mesh, or one more."""
    model = next(each for each in manifests.baseline() if each.get("kind") == kind)
    metadata = {"name": name, "namespace": "arena"}
    return {"apiVersion": model["apiVersion"], "kind": kind, "metadata": metadata, "spec": spec}


def mesh_wide(kind: str, spec: Fields) -> manifests.Manifest:
    """An object that holds for the whole mesh."""
    change = arena(kind, spec, "mesh-wide")
    return {**change, "metadata": {"name": "mesh-wide", "namespace": "istio-system"}}


# Retries ----------------------------------------------------------------------------------------

IDEMPOTENT = "virtual-service-idempotent-retries"
PRODUCT = "virtual-service-retry-product"


def routed(**route: Any) -> manifests.Manifest:
    """The VirtualService with one route."""
    to_arena = [{"destination": {"host": "arena"}}]
    return arena("VirtualService", {"http": [{"timeout": "30s", "route": to_arena, **route}]})


@pytest.mark.parametrize(
    ("conditions", "repeats"),
    [
        ("cancelled", True),
        ("deadline-exceeded", True),
        ("internal", True),
        ("resource-exhausted", True),
        ("connect-failure, unavailable", True),
        ("connect-failure,refused-stream", False),
        ("", True),
        (None, True),
    ],
)
def test_what_a_grpc_server_answers_may_come_after_processing(
    analyzer: Session, conditions: str | None, *, repeats: bool
) -> None:
    retries = {"attempts": 2, "perTryTimeout": "1s", "retryOn": conditions}
    declared = {key: value for key, value in retries.items() if value is not None}
    assert broken(analyzer, routed(retries=declared)) == ({IDEMPOTENT} if repeats else set())


def test_default_conditions_are_named_as_istios(analyzer: Session) -> None:
    retries = {"attempts": 2, "perTryTimeout": "1s"}
    (found,) = judged(analyzer, routed(retries=retries))
    assert "spec.http[0].retries.retryOn: not set, so Istio's default: cancelled" in found.message
    only_reads = [{"method": {"exact": "GET"}}]
    assert broken(analyzer, routed(retries=retries, match=only_reads)) == set()


@pytest.mark.parametrize(
    ("route", "again"),
    [
        ({}, True),
        ({"retries": {"attempts": 1, "perTryTimeout": "1s", "retryOn": "connect-failure"}}, True),
        ({"retries": {"attempts": 0}}, False),
        ({"retries": {"perTryTimeout": "1s"}}, False),
    ],
)
def test_retries_without_attempts_are_none(
    analyzer: Session, route: Fields, *, again: bool
) -> None:
    analyzer.configure(RULES.values(), {PRODUCT: {"most": 1}})
    assert broken(analyzer, routed(**route)) == ({PRODUCT} if again else set())


def calling(name: str, *called: str) -> list[manifests.Manifest]:
    """A workload with its Service, that calls others by their addresses."""
    selector = {"app.kubernetes.io/name": name}
    listed = [{"name": f"URL_{each}", "value": f"http://{each}.arena.svc:80"} for each in called]
    container = {"name": "web", "env": listed}
    pod = {"metadata": {"labels": selector}, "spec": {"containers": [container]}}
    ports = [{"name": "http", "port": 80}]
    return [
        arena("Deployment", {"selector": {"matchLabels": selector}, "template": pod}, name),
        arena("Service", {"selector": selector, "ports": ports}, name),
    ]


def test_a_step_without_a_virtual_service_is_tried_as_istio_does(analyzer: Session) -> None:
    """The first step is not: whether who calls it is in the mesh is not known."""
    chain = [*calling("first", "second"), *calling("second", "arena")]
    analyzer.configure(RULES.values(), {PRODUCT: {"most": 5}})
    (found,) = [each for each in judged(analyzer, *chain) if each.rule == PRODUCT]
    assert "one request may come 6 times along first → second → arena" in found.message


# Circuit breakers -------------------------------------------------------------------------------

LIMITS = "destination-rule-limits"
OUTLIERS = "destination-rule-outlier-detection"
EJECTION = "destination-rule-ejection"

TCP: Fields = {"tcp": {"maxConnections": 100}}
REQUESTS: Fields = {"http1MaxPendingRequests": 100, "http2MaxRequests": 200}
POOL: Fields = {**TCP, "http": {**REQUESTS, "maxRetries": 3}}
DETECTION: Fields = {"consecutive5xxErrors": 5, "maxEjectionPercent": 50}
DATA_PORT = arena("Service", {"ports": [{"name": "tcp-data", "port": 9000}]})
"""One more port of the Service, that speaks no HTTP."""


def destined(**policy: Any) -> manifests.Manifest:
    """The DestinationRule with changes of its policy."""
    return arena("DestinationRule", {"trafficPolicy": policy})


def of_port(number: int = 80, **policy: Any) -> Fields:
    """What is set for one port."""
    return {"port": {"number": number}, **policy}


@pytest.mark.parametrize(
    ("policy", "rules"),
    [
        ({"connectionPool": POOL, "outlierDetection": DETECTION}, set()),
        ({"connectionPool": POOL}, {OUTLIERS}),
        ({"outlierDetection": DETECTION}, {LIMITS}),
        ({"connectionPool": TCP, "outlierDetection": DETECTION}, {LIMITS}),
        ({"connectionPool": POOL, "outlierDetection": {"consecutive5xxErrors": 5}}, {EJECTION}),
        ({"loadBalancer": {"simple": "LEAST_REQUEST"}}, {LIMITS, OUTLIERS}),
    ],
)
def test_a_port_has_only_its_own_policy(analyzer: Session, policy: Fields, rules: set[str]) -> None:
    assert broken(analyzer, destined(portLevelSettings=[of_port(**policy)])) == rules


def test_field_of_a_port_is_named(analyzer: Session) -> None:
    settings = [of_port(connectionPool=POOL)]
    (found,) = judged(analyzer, destined(portLevelSettings=settings))
    where = "spec.trafficPolicy.portLevelSettings[0].outlierDetection"
    assert f"found: {where}: not set\nremedy: Set {where}.consecutive5xxErrors" in found.message


def test_policy_of_the_host_is_judged_for_the_ports_that_are_left(analyzer: Session) -> None:
    settings = [of_port(connectionPool=POOL, outlierDetection=DETECTION)]
    rule = destined(connectionPool=None, outlierDetection=None, portLevelSettings=settings)
    assert broken(analyzer, rule) == set()
    assert broken(analyzer, rule, DATA_PORT) == {LIMITS, OUTLIERS}


@pytest.mark.parametrize(
    ("policy", "rules"),
    [
        ({"loadBalancer": {"simple": "LEAST_REQUEST"}}, set()),
        ({"connectionPool": None}, set()),
        ({"connectionPool": TCP}, {LIMITS}),
        ({"connectionPool": {**TCP, "http": REQUESTS}}, set()),
        ({"outlierDetection": {"consecutive5xxErrors": 0}}, {OUTLIERS, EJECTION}),
        ({"portLevelSettings": [of_port(connectionPool=POOL)]}, {OUTLIERS}),
    ],
)
def test_a_subset_has_what_it_sets_and_else_what_the_host_has(
    analyzer: Session, policy: Fields, rules: set[str]
) -> None:
    """Left to the host is its retry budget too, which makes a limit of retries needless."""
    subset = {"name": "v2", "labels": {"version": "v2"}, "trafficPolicy": policy}
    rule = arena("DestinationRule", {"subsets": [subset]})
    assert broken(analyzer, rule) == rules


def test_what_a_subset_leaves_to_the_host_is_asked_of_the_host_alone(analyzer: Session) -> None:
    subset = {"name": "v2", "labels": {"version": "v2"}, "trafficPolicy": {"connectionPool": POOL}}
    without = {"subsets": [subset], "trafficPolicy": {"outlierDetection": None}}
    (found,) = judged(analyzer, arena("DestinationRule", without))
    assert "found: spec.trafficPolicy.outlierDetection: not set" in found.message


@pytest.mark.parametrize(("number", "enough"), [(9000, True), (80, False)])
def test_a_port_without_http_needs_no_limits_of_http(
    analyzer: Session, number: int, *, enough: bool
) -> None:
    settings = [of_port(number, connectionPool=TCP, outlierDetection=DETECTION)]
    found = broken(analyzer, destined(portLevelSettings=settings), DATA_PORT)
    assert found == (set() if enough else {LIMITS})


def test_a_budget_makes_a_limit_of_retries_needless(analyzer: Session) -> None:
    unlimited = {"http": {"maxRetries": None}}
    assert broken(analyzer, destined(connectionPool=unlimited)) == set()
    without = broken(analyzer, destined(connectionPool=unlimited, retryBudget=None))
    assert without == {LIMITS, "destination-rule-retry-budget"}


def test_the_budget_of_the_host_is_not_its_ports(analyzer: Session) -> None:
    pool = {**TCP, "http": REQUESTS}
    settings = [of_port(connectionPool=pool, outlierDetection=DETECTION)]
    (found,) = judged(analyzer, destined(portLevelSettings=settings))
    assert "portLevelSettings[0].connectionPool.http.maxRetries: no limit" in found.message


@pytest.mark.parametrize(
    ("errors", "gateway", "acts"),
    [
        (5, 3, True),
        (5, 5, False),
        (20, 10, True),
        (0, 3, True),
        (0, 0, False),
        (0, None, False),
        (None, None, True),
        (None, 4, True),
        (None, 5, False),
        (None, 10, False),
    ],
)
def test_a_threshold_must_be_able_to_act(
    analyzer: Session, errors: int | None, gateway: int | None, *, acts: bool
) -> None:
    detection = {"consecutive5xxErrors": errors, "consecutiveGatewayErrors": gateway}
    found = broken(analyzer, destined(outlierDetection=detection))
    assert found == (set() if acts else {OUTLIERS})


@pytest.mark.parametrize(
    ("host", "covers"),
    [
        ("*.arena.svc.cluster.local", True),
        ("*.svc.cluster.local", True),
        ("*.games.svc.cluster.local", False),
        ("*.arena", False),
    ],
)
def test_a_wildcard_covers_the_services_of_its_namespace(
    analyzer: Session, host: str, *, covers: bool
) -> None:
    found = broken(analyzer, arena("DestinationRule", {"host": host}))
    assert found == (set() if covers else {"service-mesh-policy"})


def test_a_wildcard_ejects_replicas_of_what_it_covers(analyzer: Session) -> None:
    policy = {"outlierDetection": {"maxEjectionPercent": 10}}
    spec = {"host": "*.arena.svc.cluster.local", "trafficPolicy": policy}
    own = next(each for each in manifests.baseline() if each.get("kind") == "DestinationRule")
    beside = arena("DestinationRule", own["spec"], "own")
    assert broken(analyzer, arena("DestinationRule", spec)) == {EJECTION}
    assert broken(analyzer, arena("DestinationRule", spec), beside) == set()


# Who may reach it -------------------------------------------------------------------------------

MTLS = "mesh-mutual-tls"
AUTHORIZATION = "mesh-authorization"

WEB: Fields = {"selector": {"matchLabels": {"app.kubernetes.io/name": "web"}}}
OTHERS: Fields = {"selector": {"matchLabels": {"app.kubernetes.io/name": "other"}}}


def ambient(waypoint: str | None) -> manifests.Manifest:
    """The namespace in an ambient mesh."""
    labels = {
        "istio-injection": None,
        "istio.io/dataplane-mode": "ambient",
        **({"istio.io/use-waypoint": waypoint} if waypoint else {}),
    }
    return {"kind": "Namespace", "metadata": {"name": "arena", "labels": labels}}


AMBIENT = ambient("waypoint")


def mode(name: str) -> Fields:
    return {"mtls": {"mode": name}}


@pytest.mark.parametrize(
    ("own", "of_mesh", "strict"),
    [
        ("STRICT", "PERMISSIVE", True),
        ("UNSET", "STRICT", True),
        ("UNSET", "UNSET", False),
        ("UNSET", "PERMISSIVE", False),
        ("DISABLE", "STRICT", False),
    ],
)
def test_unset_inherits_the_mode_of_the_mesh(
    analyzer: Session, own: str, of_mesh: str, *, strict: bool
) -> None:
    found = broken(
        analyzer,
        arena("PeerAuthentication", mode(own), "strict"),
        mesh_wide("PeerAuthentication", mode(of_mesh)),
    )
    assert found == (set() if strict else {MTLS})


def test_an_empty_selector_picks_all(analyzer: Session) -> None:
    empty: Fields = {"selector": {"matchLabels": {}}}
    assert broken(analyzer, arena("PeerAuthentication", empty, "strict")) == set()


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({**WEB, **mode("STRICT")}, None),
        ({**WEB, **mode("UNSET")}, None),
        ({**WEB, **mode("PERMISSIVE")}, "spec.mtls.mode: PERMISSIVE"),
        ({**WEB, **mode("DISABLE")}, "spec.mtls.mode: DISABLE"),
        ({**WEB, "portLevelMtls": {"8080": {"mode": "UNSET"}}}, None),
        (
            {**WEB, "portLevelMtls": {"8080": {"mode": "DISABLE"}}},
            "spec.portLevelMtls.8080.mode: DISABLE",
        ),
    ],
)
def test_an_exception_from_mutual_tls_is_found(
    analyzer: Session, spec: Fields, where: str | None
) -> None:
    found = judged(analyzer, arena("PeerAuthentication", spec, "exception"))
    assert {each.rule for each in found} == ({MTLS} if where else set())
    assert all(f"found: PeerAuthentication exception: {where}\n" in each.message for each in found)


@pytest.mark.parametrize(
    ("action", "closes"), [("ALLOW", True), ("CUSTOM", False), ("DENY", False), ("AUDIT", False)]
)
def test_a_policy_that_allows_nobody_lets_all_others_in(
    analyzer: Session, action: str, *, closes: bool
) -> None:
    found = broken(analyzer, arena("AuthorizationPolicy", {"action": action}))
    assert found == (set() if closes else {AUTHORIZATION})


@pytest.mark.parametrize(
    ("rule", "closes"),
    [
        ({"from": [{"source": {"principals": ["cluster.local/ns/games/sa/web"]}}]}, True),
        ({"to": [{"operation": {"ports": ["8080"]}}]}, True),
        ({}, False),
        ({"from": []}, False),
    ],
)
def test_an_empty_rule_allows_everybody(analyzer: Session, rule: Fields, *, closes: bool) -> None:
    found = broken(analyzer, arena("AuthorizationPolicy", {"rules": [rule]}))
    assert found == (set() if closes else {AUTHORIZATION})


def test_what_one_policy_allows_no_other_forbids(analyzer: Session) -> None:
    (found,) = judged(analyzer, arena("AuthorizationPolicy", {"rules": [{}]}, "open"))
    assert "found: AuthorizationPolicy open: spec.rules: an empty rule" in found.message


def target(kind: str, name: str = "arena") -> Fields:
    return {"kind": kind, "name": name}


@pytest.mark.parametrize(
    ("spec", "closes"),
    [
        ({"targetRefs": [target("Service")]}, True),
        ({"targetRef": target("Service")}, True),
        ({"targetRefs": [{**target("Service"), "group": "core"}]}, True),
        ({"targetRefs": [{**target("Service"), "group": "example.com"}]}, False),
        ({"targetRefs": [target("Service", "ghost")]}, False),
        ({"targetRefs": [target("Gateway")]}, False),
        ({"targetRef": target("Gateway")}, False),
    ],
)
def test_a_policy_for_another_target_closes_nothing(
    analyzer: Session, spec: Fields, *, closes: bool
) -> None:
    found = broken(analyzer, AMBIENT, arena("AuthorizationPolicy", spec))
    assert found == (set() if closes else {AUTHORIZATION})


def test_a_policy_for_a_service_without_a_waypoint_closes_nothing(analyzer: Session) -> None:
    policy = arena("AuthorizationPolicy", {"targetRefs": [target("Service")]})
    assert broken(analyzer, ambient(None), policy) == {AUTHORIZATION, "service-mesh-policy"}


@pytest.mark.parametrize(
    ("of_namespace", "of_service", "acts"),
    [
        ("waypoint", None, True),
        (None, "waypoint", True),
        ("none", "waypoint", True),
        (None, None, False),
        ("none", None, False),
        ("waypoint", "none", False),
    ],
)
def test_in_an_ambient_mesh_a_waypoint_alone_knows_of_policies(
    analyzer: Session, of_namespace: str | None, of_service: str | None, *, acts: bool
) -> None:
    service = arena("Service", {})
    if of_service:
        service["metadata"]["labels"] = {"istio.io/use-waypoint": of_service}
    found = broken(analyzer, ambient(of_namespace), service)
    assert found == (set() if acts else {"service-mesh-policy"})


def test_a_sidecar_passes_over_policies_with_targets(analyzer: Session) -> None:
    spec = {"targetRefs": [target("Service")]}
    assert broken(analyzer, arena("AuthorizationPolicy", spec)) == {AUTHORIZATION}


@pytest.mark.parametrize(
    ("spec", "closes"),
    [
        ({}, True),
        (WEB, True),
        (OTHERS, False),
        ({"action": "DENY"}, False),
    ],
)
def test_a_policy_of_the_mesh_holds_in_every_namespace(
    analyzer: Session, spec: Fields, *, closes: bool
) -> None:
    none = {**arena("AuthorizationPolicy", {}), "$delete": True}
    found = broken(analyzer, none, mesh_wide("AuthorizationPolicy", spec))
    assert found == (set() if closes else {AUTHORIZATION})


def test_a_policy_whose_selector_is_not_known_may_be_the_one(analyzer: Session) -> None:
    found = judged(
        analyzer,
        arena("AuthorizationPolicy", {"action": "DENY"}),
        arena("AuthorizationPolicy", {"selector": {"matchLabels": UNKNOWN}}, "another"),
    )
    assert {(each.rule, each.level) for each in found} == {(AUTHORIZATION, "advisory")}


# Buckets ----------------------------------------------------------------------------------------

OWN_KEY = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d"


def of_bucket(kind: str, **properties: Any) -> manifests.Manifest:
    """A change of what is declared of the bucket."""
    token = f"aws:s3/{kind[0].lower()}{kind[1:]}:{kind}"
    return {"type": token, "name": "backup", "properties": properties}


def encrypted(algorithm: str, key: str | None = None) -> manifests.Manifest:
    default = {"sseAlgorithm": algorithm} | ({"kmsMasterKeyId": key} if key else {})
    rules = [{"applyServerSideEncryptionByDefault": default}]
    return of_bucket("BucketServerSideEncryptionConfiguration", rules=rules)


@pytest.mark.parametrize(
    ("algorithm", "key", "own"),
    [
        ("aws:kms", OWN_KEY, True),
        ("aws:kms", "alias/games", True),
        ("aws:kms", UNKNOWN, True),
        ("aws:kms:dsse", OWN_KEY, True),
        ("aws:kms", None, False),
        ("aws:kms:dsse", None, False),
        ("aws:kms", "alias/aws/s3", False),
        ("aws:kms", "arn:aws:kms:us-east-1:123456789012:alias/aws/s3", False),
        ("AES256", None, False),
    ],
)
def test_a_key_of_ones_own_is_named(
    analyzer: Session, algorithm: str, key: str | None, *, own: bool
) -> None:
    found = broken(analyzer, encrypted(algorithm, key))
    assert found == (set() if own else {"bucket-encryption"})


def test_key_of_aws_is_told_with_the_change_that_mends_it(analyzer: Session) -> None:
    (found,) = judged(analyzer, encrypted("aws:kms"))
    assert ": aws:kms with AWS' own key\n" in found.message
    assert "kmsMasterKeyId: the ARN of a key of your own." in found.message


LOCK = "bucket-object-lock"


def locked(**retention: Any) -> manifests.Manifest:
    rule = {"defaultRetention": {"mode": None, "days": 7, **retention}}
    return of_bucket("BucketObjectLockConfiguration", rule=rule)


@pytest.mark.parametrize(
    ("mode", "holds"), [("COMPLIANCE", True), ("GOVERNANCE", False), (None, False)]
)
def test_a_lock_that_a_permission_lifts_is_none(
    analyzer: Session, mode: str | None, *, holds: bool
) -> None:
    assert broken(analyzer, locked(mode=mode)) == (set() if holds else {LOCK})


@pytest.mark.parametrize("stack", STACKS)
def test_only_dev_may_lift_its_locks(analyzer: Session, stack: str) -> None:
    levels = json.loads((LEVELS / f"{stack}.json").read_text(encoding="utf-8"))
    analyzer.configure(RULES.values(), levels)
    lifted = {each.rule for each in judged(analyzer, locked(mode="GOVERNANCE"))}
    assert (LOCK in lifted) is (stack != "dev")
    short = locked(mode="GOVERNANCE", days=0)
    assert LOCK in {each.rule for each in judged(analyzer, short)}


OLD: Fields = {"noncurrentVersionExpiration": {"noncurrentDays": 35}}
PARTS: Fields = {"abortIncompleteMultipartUpload": {"daysAfterInitiation": 1}}


@pytest.mark.parametrize(
    ("rules", "expires"),
    [
        ([{"status": "Enabled", **PARTS}], False),
        ([{"status": "Enabled", "expiration": {"days": 35}}], False),
        ([{"status": "Disabled", **OLD}, {"status": "Enabled", **PARTS}], False),
        ([{"status": "Enabled", **PARTS}, {"status": "Enabled", **OLD}], True),
    ],
)
def test_only_what_expires_old_versions_is_a_lifecycle(
    analyzer: Session, rules: list[Fields], *, expires: bool
) -> None:
    found = broken(analyzer, of_bucket("BucketLifecycleConfiguration", rules=rules))
    assert found == (set() if expires else {"bucket-lifecycle"})


KMS_TOO: Fields = {"sourceSelectionCriteria": {"sseKmsEncryptedObjects": {"status": "Enabled"}}}


@pytest.mark.parametrize(
    ("rule", "copies"),
    [
        (KMS_TOO, True),
        ({}, False),
        ({**KMS_TOO, "filter": {"prefix": "postgres/"}}, False),
    ],
)
def test_a_replication_copies_all_that_is_in_the_bucket(
    analyzer: Session, rule: Fields, *, copies: bool
) -> None:
    timed = {"replicationTime": {"status": "Enabled", "time": {"minutes": 15}}}
    rules = [{"status": "Enabled", "destination": timed, **rule}]
    found = broken(analyzer, of_bucket("BucketReplicationConfig", rules=rules))
    assert found == (set() if copies else {"survival-region"})
