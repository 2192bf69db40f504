"""Redis under Sentinel: enough voters, a write path that survives, data that lasts.

The sets are known by the label `app.kubernetes.io/component` of their Pods: `redis` and
`sentinel`. Their configuration is read from the ConfigMaps that those Pods mount, the quorum from
`sentinel monitor` there or from the variable `REDIS_QUORUM` of a start script that writes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policies.model import Resource, listing, mappings, text
from policies.rule import Finding, Option, Options, Scope, Severity, rule
from policies.world import CONFIG_MAP, STATEFUL_SET, Workload, World

_COMPONENT = "app.kubernetes.io/component"
DATA, SENTINEL = "redis", "sentinel"
_CONFIGURATION = {DATA: "redis.conf", SENTINEL: "sentinel.conf"}
_QUORUM_VARIABLE = "REDIS_QUORUM"
_QUORUM_WORD = 4
"""Place of the quorum in ``monitor <name> <host> <port> <quorum>``."""

_DOWN_AFTER = 30_000
"""Milliseconds: Sentinel's default."""
_MAX_LAG = 10
"""Seconds: Redis' default."""
_SNAPSHOTS = "3600 1 300 100 60 10000"
"""When Redis takes snapshots without a `save` line; only an empty one switches them off."""

_SENTINELS = "https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/"
_REPLICATION = "https://redis.io/docs/latest/operate/oss_and_stack/management/replication/"
_EVICTION = "https://redis.io/docs/latest/develop/reference/eviction/"


@rule(
    "redis-sentinels",
    Severity.CRITICAL,
    kinds=(STATEFUL_SET,),
    why="A failover needs the votes of a majority of all Sentinels: of two, both; so one lost "
    "Sentinel, or the node it shares with the master, means no failover.",
    source=f"{_SENTINELS}#fundamental-things-to-know-about-sentinel-before-deploying",
    remedy="Run three or five Sentinels.",
    options={
        "minimum": Option(
            3, {"type": "integer", "minimum": 3}, "Sentinels that there are at least."
        )
    },
    passing="{kind: StatefulSet, metadata: {name: redis-sentinel}, spec: {replicas: 3}}",
    failing="""
        {kind: StatefulSet, metadata: {name: redis-sentinel}, spec: {replicas: 2}}
    """,
)
def redis_sentinels(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Count the Sentinels."""
    workload = world.workload(resource)
    if role_of(workload) != SENTINEL:
        return
    count, minimum = workload.replicas, int(options["minimum"])
    if count < minimum:
        yield Finding("spec.replicas", f"{count} Sentinels", f"Set spec.replicas to {minimum}.")
    elif count % 2 == 0:
        yield Finding(
            "spec.replicas",
            f"{count} Sentinels, an even number, which survive no more losses than {count - 1}",
            f"Set spec.replicas to {count + 1}.",
        )


@rule(
    "redis-quorum",
    Severity.CRITICAL,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="With a quorum above the number of Sentinels the master is never found to be down; with "
    "one below the majority, a cut-off minority starts failovers that it cannot finish.",
    source=f"{_SENTINELS}#quorum",
    remedy="Set the quorum to the majority of the Sentinels: 2 of 3, 3 of 5.",
    passing="""
        kind: StatefulSet
        metadata: {name: redis-sentinel}
        spec:
          template:
            spec:
              containers: [{name: sentinel, env: [{name: REDIS_QUORUM, value: "2"}]}]
    """,
    failing="""
        kind: StatefulSet
        metadata: {name: redis-sentinel}
        spec:
          template:
            spec:
              containers: [{name: sentinel, env: [{name: REDIS_QUORUM, value: "4"}]}]
    """,
)
def redis_quorum(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Compare the quorum with the number of Sentinels."""
    workload = world.workload(resource)
    if role_of(workload) != SENTINEL:
        return
    where, quorum = quorum_of(workload, world)
    count = workload.replicas
    majority = count // 2 + 1
    if quorum is None:
        yield Finding(where, "no quorum", f"Set it to {majority}, the majority of {count}.")
    elif not majority <= quorum <= count:
        yield Finding(
            where,
            f"a quorum of {quorum} with {count} Sentinels",
            f"Set it to {majority}, the majority of {count}.",
        )


@rule(
    "redis-min-replicas-to-write",
    Severity.CRITICAL,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="A master that was cut off goes on acknowledging writes, and all of them are lost when it "
    "comes back; min-replicas-to-write bounds that to min-replicas-max-lag.",
    source=f"{_REPLICATION}#allow-writes-only-with-n-attached-replicas",
    remedy="Set min-replicas-to-write to 1 or more in redis.conf.",
    passing="""
        kind: ConfigMap
        metadata: {name: redis}
        data:
          redis.conf: |
            appendonly yes
            min-replicas-to-write 1
            maxmemory 512mb
            maxmemory-policy allkeys-lru
    """,
    failing="""
        kind: ConfigMap
        metadata: {name: redis}
        data:
          redis.conf: |
            appendonly yes
            min-replicas-to-write 0
            maxmemory 512mb
            maxmemory-policy allkeys-lru
    """,
)
def redis_min_replicas_to_write(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require that a write needs a replica."""
    if role_of(world.workload(resource)) == DATA:
        needed = min_replicas_to_write(world.workload(resource), world)
        if needed < 1:
            yield Finding(
                "redis.conf: min-replicas-to-write",
                str(needed),
                "Set min-replicas-to-write to 1 in redis.conf.",
            )


@rule(
    "redis-write-path",
    Severity.HIGH,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="With one server lost, the new master must still have as many replicas as a write needs, "
    "or all writes stop.",
    source=f"{_REPLICATION}#allow-writes-only-with-n-attached-replicas",
    remedy="Run min-replicas-to-write + 2 data servers.",
    passing="{kind: StatefulSet, metadata: {name: redis}, spec: {replicas: 3}}",
    failing="{kind: StatefulSet, metadata: {name: redis}, spec: {replicas: 2}}",
)
def redis_write_path(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Count the data servers that are left after a loss."""
    workload = world.workload(resource)
    if role_of(workload) != DATA:
        return
    needed = min_replicas_to_write(workload, world)
    wanted = needed + 2
    if workload.replicas < wanted:
        yield Finding(
            "spec.replicas",
            f"{workload.replicas} data servers, with min-replicas-to-write at {needed}",
            f"Set spec.replicas to {wanted} or more.",
        )


@rule(
    "redis-persistence",
    Severity.HIGH,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="A master that restarts empty before it is failed over empties its replicas too.",
    source=f"{_REPLICATION}#safety-of-replication-when-master-has-persistence-turned-off",
    remedy="Set appendonly yes in redis.conf (or do not switch off its snapshots), and keep the "
    "data on a volume.",
    passing="""
        kind: ConfigMap
        metadata: {name: redis}
        data:
          redis.conf: |
            appendonly yes
            min-replicas-to-write 1
            maxmemory 512mb
            maxmemory-policy allkeys-lru
    """,
    failing="""
        kind: ConfigMap
        metadata: {name: redis}
        data:
          redis.conf: |
            appendonly no
            save ""
            min-replicas-to-write 1
            maxmemory 512mb
            maxmemory-policy allkeys-lru
    """,
)
def redis_persistence(resource: Resource, world: World, _: Options) -> Iterator[Finding]:
    """Require that data is written, and to a volume that lasts."""
    workload = world.workload(resource)
    if role_of(workload) != DATA:
        return
    conf = configuration(workload, world)
    snapshots = conf.get("save", _SNAPSHOTS).strip("\"'")
    if conf.get("appendonly", "no") != "yes" and not snapshots:
        found = f"{conf.get('appendonly', 'not set')}, and no snapshots either"
        yield Finding("redis.conf: appendonly", found, "Set appendonly to yes.")
    if not listing(resource.props, "spec", "volumeClaimTemplates"):
        yield Finding(
            "spec.volumeClaimTemplates",
            "none, so the data goes with the Pod",
            "Add a volume claim template and mount it as the server's dir.",
        )


@rule(
    "redis-memory-policy",
    Severity.HIGH,
    kinds=(STATEFUL_SET,),
    scope=Scope.STACK,
    why="A cache without a limit is killed by the kernel when it has grown into its limit; one "
    "that evicts nothing refuses writes instead.",
    source=_EVICTION,
    remedy="Set maxmemory below the container's memory limit, and an evicting maxmemory-policy.",
    options={
        "refused": Option(
            ["noeviction"],
            {"type": "array", "items": {"type": "string"}},
            "Memory policies that do not fit a cache.",
        ),
    },
    passing="""
        kind: ConfigMap
        metadata: {name: redis}
        data:
          redis.conf: |
            appendonly yes
            min-replicas-to-write 1
            maxmemory 512mb
            maxmemory-policy allkeys-lru
    """,
    failing="""
        kind: ConfigMap
        metadata: {name: redis}
        data:
          redis.conf: |
            appendonly yes
            min-replicas-to-write 1
            maxmemory 512mb
            maxmemory-policy noeviction
    """,
)
def redis_memory_policy(resource: Resource, world: World, options: Options) -> Iterator[Finding]:
    """Require a limit and a policy."""
    workload = world.workload(resource)
    if role_of(workload) != DATA:
        return
    conf = configuration(workload, world)
    if conf.get("maxmemory", "0") in {"0", "0b"}:
        yield Finding(
            "redis.conf: maxmemory",
            conf.get("maxmemory", "not set"),
            "Set maxmemory to about half of the container's memory limit.",
        )
    policy = conf.get("maxmemory-policy", "noeviction")
    if policy in options["refused"]:
        yield Finding(
            "redis.conf: maxmemory-policy",
            policy if "maxmemory-policy" in conf else f"not set ({policy})",
            "Set maxmemory-policy to allkeys-lru (or volatile-ttl, if every key has a TTL).",
        )


# Reading ----------------------------------------------------------------------------------------


def role_of(workload: Workload) -> str:
    """`DATA`, `SENTINEL`, or what else the Pods' label says."""
    return text(workload.labels, _COMPONENT)


def _lines(workload: Workload, world: World) -> list[str]:
    """The set's configuration, from the ConfigMaps that its Pods mount."""
    namespace, key = workload.resource.namespace, _CONFIGURATION[role_of(workload)]
    lines: list[str] = []
    for volume in mappings(workload.pod, "volumes"):
        name = text(volume, "configMap", "name")
        mounted = world.named(CONFIG_MAP, namespace, name) if name else None
        if mounted is not None:
            lines += text(mounted.props, "data", key).splitlines()
    return lines


def configuration(workload: Workload, world: World) -> Mapping[str, str]:
    """Directives and their values; the last one of a name counts, as in Redis itself."""
    directives = {}
    for line in _lines(workload, world):
        name, _, value = line.strip().partition(" ")
        if name and not name.startswith("#"):
            directives[name.lower()] = value.strip()
    return directives


def min_replicas_to_write(workload: Workload, world: World) -> int:
    """Redis' default is 0: a write needs no replica."""
    return _whole(configuration(workload, world).get("min-replicas-to-write", "0")) or 0


def quorum_of(workload: Workload, world: World) -> tuple[str, int | None]:
    """Where the quorum is declared, and what it is."""
    for line in _lines(workload, world):
        words = line.split()
        if words[:2] == ["sentinel", "monitor"] and len(words) > _QUORUM_WORD + 1:
            return "sentinel.conf: sentinel monitor", _whole(words[_QUORUM_WORD + 1])
    for container in workload.containers:
        for variable in mappings(container.spec, "env"):
            if text(variable, "name") == _QUORUM_VARIABLE:
                where = f"{container.path}.env[{_QUORUM_VARIABLE}].value"
                return where, _whole(text(variable, "value"))
    return "sentinel.conf: sentinel monitor", None


def _whole(written: str) -> int | None:
    return int(written) if written.isdecimal() and written.isascii() else None


def down_after(sentinels: Workload, world: World) -> float:
    """Seconds until a silent master counts as down; Sentinel's default is 30."""
    for line in _lines(sentinels, world):
        words = line.split()
        if words[:2] == ["sentinel", "down-after-milliseconds"]:
            return (_whole(words[-1]) or _DOWN_AFTER) / 1000
    return _DOWN_AFTER / 1000


def max_lag(servers: Workload, world: World) -> float:
    """Seconds of writes that a master acknowledges at most with no replica; default 10."""
    return _whole(configuration(servers, world).get("min-replicas-max-lag", "")) or _MAX_LAG
