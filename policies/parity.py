"""Whether one stack mirrors another: dr what it stands in for, staging what it rehearses.

Both are compared resource by resource and field by field, with the names of regions, zones,
prefixes and stacks taken out. A stack may declare more than the one that it is compared with; it
may lack nothing, and differ only where it must: in the region, and, for a rehearsal, in size. A
standby's services may come with its promotion: then it is compared as promoted, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from policies.model import Opaque, Resource, mapping, mappings, text, texts
from policies.rule import Level
from policies.rules.kafka import KAFKA, MIRROR_MAKER

_REGION = re.compile(
    r"\b(?:af|ap|ca|cn|eu|il|me|mx|sa|us)(?:-gov|-iso[a-z]?)?-[a-z]+-\d(?=[a-z]?\b)"
)
"""A region of AWS, also as the beginning of a zone."""
_OBJECT_PREFIXES = ("kubernetes:", "aws:")
"""Types that stand for something outside the program."""

_BY_REGION = re.compile(
    r".*\bannotations\.fault-tolerance/config"  # a digest of files that name the namespace
    r"|spec\.(replica|bootstrap|externalClusters)\b.*"  # a standby follows its primary
    r"|protect|retainOnDelete"
)
"""Fields in which a standby differs from what it stands in for."""

_BY_ROLE = re.compile(r"kafka\.strimzi\.io/KafkaUser \S*mirror spec\.authorization\..*")
"""The mirror's user reads from a primary, and writes into a standby."""

_BY_SIZE = re.compile(
    r".*\b(requests|limits)\.[a-z.-]+"
    r"|.*\b(storage|size|sizeLimit|hard|memory|cpu|Xms|Xmx|-Xms|-Xmx)\b.*"
    r"|.*(maxReplicas|minReplicas|maxReplicaCount|retention|retentionPolicy)\b.*"
    r"|.*\.parameters\.(shared_buffers|max_slot_wal_keep_size)"
    r"|.*\b(maxmemory|redis\.conf|sentinel\.conf|neo4j\.conf)\b.*"
    r"|rules\[\d+\]\.(expiration|noncurrentVersionExpiration)\..*"
    r"|rule\.defaultRetention\..*"
    r"|spec\.groups\b.*"  # thresholds of alerts follow the sizes
    r"|metadata\.annotations\.fault-tolerance/.*"
)
"""Fields in which a rehearsal may differ besides: sizes, and how long things are kept."""


_UNREHEARSED = re.compile(
    r".*mirror.*|networking\.k8s\.io/NetworkPolicy kafka-network spec\.ingress.*"
)
"""What leads to another region, by resource and field: a rehearsal has none."""

_COMPONENT = "app.kubernetes.io/component"
_TIERS = frozenset({"core", "standard", "best-effort"})
"""Components of a platform that are services."""


class Relation(StrEnum):
    """What the second stack is to the first."""

    STANDBY = "standby"
    """Takes over: the same in another region, but for services, which may come when it does."""
    PROMOTED = "promoted standby"
    """Has taken over: the same in another region."""
    REHEARSAL = "rehearsal"
    """Shows beforehand what will happen: the same shape, at any size."""


@dataclass(frozen=True)
class Difference:
    """One thing in which the second stack is not what it should be."""

    resource: str
    where: str
    first: str
    second: str
    remedy: str

    def lines(self) -> Iterator[str]:
        """For people: where, what is on either side, what to do."""
        where = f"{self.resource}: {self.where}" if self.where else self.resource
        yield where
        yield f"  found:  {self.first} / {self.second}"
        yield f"  remedy: {self.remedy}"


@dataclass(frozen=True)
class Side:
    """One of the two stacks."""

    name: str
    resources: tuple[Resource, ...]

    @classmethod
    def of(cls, name: str, resources: Iterable[Resource]) -> Side:
        """Take what a stack declares, leaving out the program's own structure."""
        return cls(
            name, tuple(each for each in resources if each.type.startswith(_OBJECT_PREFIXES))
        )

    @classmethod
    def read(cls, path: Path, resources: Iterable[Resource]) -> Side:
        """Take what a file declares; a state knows its stack's name."""
        listed = list(resources)
        names = {each.urn.removeprefix("urn:pulumi:").partition("::")[0] for each in listed}
        return cls.of(names.pop() if len(names) == 1 else path.stem, listed)

    @property
    def regions(self) -> frozenset[str]:
        """Where its volumes are, by the zones of its StorageClasses."""
        return frozenset(
            region
            for each in self.resources
            if each.kind == "storage.k8s.io/StorageClass"
            for term in mappings(each.props, "allowedTopologies")
            for expression in mappings(term, "matchLabelExpressions")
            for zone in texts(expression, "values")
            for region in _REGION.findall(zone)
        )

    @property
    def prefix(self) -> str:
        """First part of its names, told by the namespace of the data."""
        names = (
            mapping(each.props, "metadata").get("name")
            for each in self.resources
            if each.kind == "core/Namespace"
        )
        found = (each for each in names if isinstance(each, str) and each.endswith("-data"))
        return next(found, "-data").removesuffix("-data")

    def neutral(self, written: str) -> str:
        """A text without the names that belong to this stack alone."""
        neutral = _REGION.sub("<region>", written)
        if self.prefix:
            neutral = re.sub(rf"\b{re.escape(self.prefix)}\b", "<prefix>", neutral)
        return neutral.replace(f"-{self.name}-", "-<stack>-")

    def by_key(self) -> Mapping[tuple[str, str], Resource]:
        """Its resources by kind and name."""
        return {(each.kind, self.neutral(each.name)): each for each in self.resources}


def differences(first: Side, second: Side, relation: Relation) -> list[Difference]:
    """Everything in which `second` falls short of `first`."""
    found = list(_declared(first, second, relation))
    if relation is Relation.STANDBY:
        found += _regions(first, second)
    return found


def _declared(first: Side, second: Side, relation: Relation) -> Iterator[Difference]:
    there = second.by_key()
    for key, resource in first.by_key().items():
        name = f"{resource.kind} {resource.name}"
        if key not in there:
            if _may_lack(resource, name, relation):
                continue
            yield Difference(
                name, "", "declared", "not declared", f"Declare it in {second.name} too."
            )
            continue
        one, other = _leaves(first, resource), _leaves(second, there[key])
        for path in sorted(one.keys() | other.keys()):
            before, after = one.get(path, "not set"), other.get(path, "not set")
            if before != after and not _may_differ(name, path, relation):
                yield Difference(
                    name,
                    path,
                    before,
                    after,
                    f"Give both stacks the same value, or take the setting out of {second.name}.",
                )


def _may_lack(resource: Resource, name: str, relation: Relation) -> bool:
    """Whether the second stack need not have a resource; the namespaces of services it must."""
    of_a_service = text(resource.labels, _COMPONENT) in _TIERS and resource.kind != "core/Namespace"
    if relation is Relation.STANDBY and of_a_service:
        return True
    return _may_differ(name, "", relation)


def _may_differ(resource: str, path: str, relation: Relation) -> bool:
    field = f"{resource} {path}"
    if _BY_REGION.fullmatch(path) or _BY_ROLE.fullmatch(field):
        return True
    return relation is Relation.REHEARSAL and bool(
        _BY_SIZE.fullmatch(path) or _UNREHEARSED.fullmatch(field)
    )


def _leaves(side: Side, resource: Resource) -> dict[str, str]:
    """Every field that holds no other, by its path; lists of named objects by their names."""
    found: dict[str, str] = {}
    pending: list[tuple[str, object]] = [("", resource.props)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, Opaque):
            found[path] = repr(value)
        elif isinstance(value, dict):
            pending += [(f"{path}.{key}".lstrip("."), each) for key, each in value.items()]
        elif isinstance(value, list):
            pending += [(f"{path}[{_place(i, each)}]", each) for i, each in enumerate(value)]
        else:
            found[path] = side.neutral(str(value))
    return found


def _place(index: int, item: object) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return name if isinstance(name, str) else str(index)


def _regions(first: Side, second: Side) -> Iterator[Difference]:
    """Another region, what is mirrored there, and backups of the first that can be read there."""
    kinds = {each.kind for each in second.resources}
    if any(each.kind == KAFKA for each in first.resources) and MIRROR_MAKER not in kinds:
        yield Difference(
            "KafkaMirrorMaker2",
            "",
            "Kafka is declared",
            "nothing mirrors it",
            f"Declare a KafkaMirrorMaker2 in {second.name} with {first.name} as its source.",
        )
    if first.regions & second.regions:
        yield Difference(
            "StorageClass",
            "allowedTopologies",
            ", ".join(sorted(first.regions)),
            ", ".join(sorted(second.regions)),
            f"Run {second.name} in another region: one that fails takes both.",
        )
    copied_to = {
        region
        for each in first.resources
        if each.kind == "aws:s3/BucketReplicationConfig"
        for rule in mappings(each.props, "rules")
        for region in _bucket_regions(first, mapping(rule, "destination").get("bucket"))
    }
    if second.regions and not copied_to & second.regions:
        yield Difference(
            "BucketReplicationConfig",
            "rules[].destination.bucket",
            ", ".join(sorted(copied_to)) or "no copy",
            ", ".join(sorted(second.regions)),
            f"Copy the backups of {first.name} to the region of {second.name}.",
        )


def _bucket_regions(side: Side, arn: object) -> set[str]:
    """The regions of the bucket that an ARN names."""
    name = arn.rpartition(":")[2] if isinstance(arn, str) else ""
    return {
        region
        for each in side.resources
        if each.kind == "aws:s3/Bucket" and each.props.get("bucket") == name
        for region in [each.props.get("region")]
        if isinstance(region, str)
    }


_RANK = {Level.DISABLED: 0, Level.ADVISORY: 1, Level.MANDATORY: 2}


def weaker_levels(first: Path, second: Path) -> list[Difference]:
    """Rules that the second levels file is laxer in, or has other thresholds for."""
    levels = [json.loads(each.read_text(encoding="utf-8")) for each in (first, second)]
    found = []
    for rule in sorted(levels[0].keys() | levels[1].keys()):
        one, other = (each.get(rule, each.get("all", Level.ADVISORY)) for each in levels)
        if one == other or _is_stricter(other, one):
            continue
        found.append(
            Difference(
                f"{second.name}: {rule}",
                "level",
                json.dumps(one),
                json.dumps(other),
                f"Give {rule} the level and thresholds of {first.name}.",
            )
        )
    return found


def _is_stricter(entry: object, than: object) -> bool:
    return (
        isinstance(entry, str)
        and isinstance(than, str)
        and _RANK[Level(entry)] >= _RANK[Level(than)]
    )
