"""What values may be together: each rule refuses, says what would be right, and lets right pass."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stacks.settings import Settings
from tests.stacks.conftest import Project

pytestmark = pytest.mark.unit

CORE: dict[str, Any] = {"tier": "core", "image": "example.com/a:1"}
BEST_EFFORT: dict[str, Any] = {"tier": "best-effort", "image": "example.com/a:1"}

SHORT_LIVED: dict[str, Any] = {
    "backup": {"retention": "3d", "lock": "1d"},
    "postgres": {"retention": "2d"},
    "mongodb": {"retention": "2d", "base_every": "1d"},
    "neo4j": {"retention": "2d", "accept_license": True, "issuer": "platform"},
}
"""Backups that are gone after three days."""

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "synchronous like instances": (
        {"postgres": {"instances": 3, "synchronous": 3}},
        "postgres.synchronous",
        "is 3; it should be less than instances (3)",
    ),
    "synchronous on one instance": (
        {"protect": False, "postgres": {"instances": 1}},
        "postgres.synchronous",
        "is 1; it should be less than instances (1)",
    ),
    "a volume that a new server fills": (
        {"postgres": {"storage": "1Mi"}},
        "postgres.storage",
        'is "1Mi"; it should be at least 1Gi: what a server writes there for itself needs as much',
    ),
    "a volume for less log than PostgreSQL keeps": (
        {"postgres": {"wal_storage": "256Mi"}},
        "postgres.wal_storage",
        'is "256Mi"; it should be at least 512Mi',
    ),
    "memory in which no PostgreSQL works": (
        {"postgres": {"resources": {"memory": "255Mi"}}},
        "postgres.resources.memory",
        'is "255Mi"; it should be at least 256Mi: with less it does not start',
    ),
    "a small volume of Redis": (
        {"redis": {"storage": "512Mi", "memory": "128Mi"}},
        "redis.storage",
        "should be at least 1Gi",
    ),
    "a Redis whose file cannot be rewritten": (
        {"redis": {"storage": "3Gi", "memory": "2Gi"}},
        "redis.storage",
        'is "3Gi"; it should be at least 4Gi, 2 times memory',
    ),
    "a failover of Redis that is tried again too late": (
        {"redis": {"failover_timeout": "16s"}},
        "objectives.redis.rto",
        "is 30s; it should be at least 32s: a failover that fails is tried again",
    ),
    "a Kafka that mirrors itself": (
        {"kafka": {"host": "kafka.example.com", "source": "kafka.example.com"}},
        "kafka.source",
        'is "kafka.example.com"; it should be the host of the other region',
    ),
    "a standby whose Kafka mirrors nothing": (
        {"role": "standby", "postgres": {"source": {"bucket": "games-copies"}}},
        "kafka.source",
        "is missing; it should name the other region's cluster where role is standby",
    ),
    "a replacement of an image that nothing names": (
        {"images": {"redis:7.4.0": "mirror.example.com/redis:7.4.0"}},
        "images.redis:7.4.0",
        "it should take the place of an image that a setting names: none names redis:7.4.0; did "
        "you mean redis:7.4.6?",
    ),
    "little memory for Redis": ({"redis": {"memory": "63Mi"}}, "redis.memory", "at least 64Mi"),
    "a small volume of MongoDB": ({"mongodb": {"storage": "1Ki"}}, "mongodb.storage", "least 1Gi"),
    "little memory for MongoDB": (
        {"mongodb": {"resources": {"memory": "1Mi"}}},
        "mongodb.resources.memory",
        "should be at least 512Mi",
    ),
    "a small volume of Neo4j": (
        {"neo4j": {"storage": "1Mi", "accept_license": True, "issuer": "platform"}},
        "neo4j.storage",
        "should be at least 1Gi",
    ),
    "little memory for Neo4j": (
        {
            "neo4j": {
                "resources": {"memory": "512Mi"},
                "accept_license": True,
                "issuer": "platform",
            }
        },
        "neo4j.resources.memory",
        "should be at least 768Mi",
    ),
    "a small volume of Kafka": ({"kafka": {"storage": "1Mi"}}, "kafka.storage", "at least 1Gi"),
    "a small volume of a controller": (
        {"kafka": {"controller_storage": "1Mi"}},
        "kafka.controller_storage",
        "should be at least 1Gi",
    ),
    "little memory for Kafka": (
        {"kafka": {"resources": {"memory": "256Mi"}}},
        "kafka.resources.memory",
        "should be at least 512Mi",
    ),
    "little memory for a controller": (
        {"kafka": {"controller_resources": {"memory": "256Mi"}}},
        "kafka.controller_resources.memory",
        "should be at least 512Mi",
    ),
    "little memory for a service": (
        {"services": {"gateway": {"resources": {"memory": "1Ki"}}}},
        "services.gateway.resources.memory",
        'is "1Ki"; it should be at least 16Mi',
    ),
    "interval that no schedule keeps": (
        {"postgres": {"backup_every": "5h"}},
        "postgres.backup_every",
        'is "5h"; it should be one of 1h, 2h, 3h,',
    ),
    "interval with a rest": (
        {"postgres": {"backup_every": "90m"}},
        "postgres.backup_every",
        "it should be one of",
    ),
    "retention shorter than interval": (
        {"postgres": {"backup_every": "7d", "retention": "6d"}},
        "postgres.retention",
        "it should not be shorter than backup_every",
    ),
    "two instances where data is protected": (
        {"postgres": {"instances": 2}},
        "postgres.instances",
        "is 2; it should be at least 3, one for each zone, where protect is true",
    ),
    "asynchronous where data is protected": (
        {"postgres": {"synchronous": 0}},
        "postgres.synchronous",
        "is 0; it should be 1 with 3 instances, where protect is true",
    ),
    "writes stop when a zone is gone": (
        {"postgres": {"instances": 5, "synchronous": 3}},
        "postgres.synchronous",
        "is 3; it should be 2 with 5 instances",
    ),
    "a name server that is no network": (
        {"name_servers": ["10.0.0.10/8"]},
        "name_servers[0]",
        'is "10.0.0.10/8"; it should be an IPv4 network, such as 10.0.0.0/8, or one address',
    ),
    "more copies than zones": (
        {"postgres": {"instances": 6, "synchronous": 3}},
        "postgres.synchronous",
        "is 3; it should be less than the number of zones (3)",
    ),
    "more graph servers than zones": (
        {"neo4j": {"servers": 5, "accept_license": True, "issuer": "platform"}},
        "neo4j.servers",
        "is 5; it should be no more than the number of zones (3)",
    ),
    "a zone takes all that must have a write": (
        {"postgres": {"instances": 5, "synchronous": 1}},
        "postgres.synchronous",
        "is 1; it should be 2 with 5 instances",
    ),
    "instances that no quorum fits": (
        {"postgres": {"instances": 4, "synchronous": 1}},
        "postgres.instances",
        "is 4; it should be 3, or 5, where protect is true",
    ),
    "a service uses a system that there is not": (
        {
            "systems": ["postgres", "redis", "mongodb", "kafka"],
        },
        "services.deck-analytics.uses[2]",
        'is "neo4j"; it should be left out, or named in systems, which lists what the stack has: '
        "postgres, redis, mongodb, kafka",
    ),
    "a system named twice": (
        {"systems": ["postgres", "redis", "mongodb", "neo4j", "kafka", "redis"]},
        "systems[5]",
        'is "redis"; it should be left out: it is in the list already',
    ),
    "a system unprotected twice": (
        {"unprotect": ["redis", "redis"]},
        "unprotect[1]",
        "it should be left out: it is in the list already",
    ),
    "a system unprotected that there is not": (
        {
            "systems": ["postgres", "redis", "mongodb", "kafka"],
            "unprotect": ["neo4j"],
            "services": {"deck-analytics": {"uses": ["postgres", "mongodb", "kafka"]}},
        },
        "unprotect[0]",
        'is "neo4j"; it should be left out: systems does not name it',
    ),
    "a service with the name of a data system": (
        {"services": {"redis": {**CORE, "uses": []}}},
        "services.redis",
        "it should have another name: a data system has this one",
    ),
    "even members": (
        {"mongodb": {"members": 4}},
        "mongodb.members",
        "is 4; it should be odd, such as 3 or 5",
    ),
    "more members than can vote": (
        {"mongodb": {"members": 9}},
        "mongodb.members",
        "is 9; it should be",
    ),
    "members without a majority to spare": (
        {"protect": False, "mongodb": {"members": 1}},
        "mongodb.members",
        "is 1; it should be",
    ),
    "oplog archived too rarely": (
        {"mongodb": {"oplog_span": "6m"}},
        "objectives.mongodb.rpo",
        "is 5m; it should be at least 6m",
    ),
    "an RPO below what an oplog span can be": (
        {"objectives": {"mongodb": {"rpo": "30s"}}},
        "objectives.mongodb.rpo",
        'is "30s"; it should be at least 1m',
    ),
    "election longer than the objective": (
        {"objectives": {"mongodb": {"rto": "29s"}}},
        "objectives.mongodb.rto",
        'is "29s"; it should be at least 30s',
    ),
    "oplog and copy add up": (
        {
            "backup": {"replica_region": "us-west-2"},
            "mongodb": {"oplog_span": "5m"},
            "objectives": {"region": {"rpo": "19m"}},
            "postgres": {"archive_timeout": "1m"},
        },
        "objectives.region.rpo",
        "should be at least 20m: mongodb.oplog_span",
    ),
    "incremental backups that no schedule keeps": (
        {"mongodb": {"incremental_every": "5h"}},
        "mongodb.incremental_every",
        'is "5h"; it should be one of 1h, 2h, 3h,',
    ),
    "incremental backups as rare as full ones": (
        {"mongodb": {"incremental_every": "1d", "base_every": "1d"}},
        "mongodb.incremental_every",
        "it should be shorter than base_every",
    ),
    "mongodb's retention shorter than its interval": (
        {"mongodb": {"retention": "6d"}},
        "mongodb.retention",
        "it should not be shorter than base_every",
    ),
    "bucket forgets before mongodb": (
        {"backup": {"retention": "34d"}},
        "backup.retention",
        "it should be at least 35d: the oldest restore (mongodb.retention)",
    ),
    "even sentinels": (
        {"redis": {"sentinels": 4, "quorum": 3}},
        "redis.sentinels",
        "is 4; it should be odd, such as 3 or 5",
    ),
    "quorum below a majority": (
        {"redis": {"sentinels": 5, "quorum": 2}},
        "redis.quorum",
        "is 2; it should be 3 with 5 sentinels",
    ),
    "quorum of all": (
        {"redis": {"sentinels": 3, "quorum": 3}},
        "redis.quorum",
        "is 3; it should be 2 with 3 sentinels",
    ),
    "quorum above what a lost zone leaves": (
        {"redis": {"sentinels": 9, "quorum": 7}},
        "redis.quorum",
        "is 7; it should be from 5 to 6 with 9 sentinels",
    ),
    "redis stops writing when a zone is gone": (
        {"redis": {"min_replicas_to_write": 2}},
        "redis.min_replicas_to_write",
        "is 2; it should be at most 1 with 3 servers",
    ),
    "lock longer than retention": (
        {"backup": {"retention": "35d", "lock": "40d"}},
        "backup.lock",
        'is "40d"; it should not be longer than retention',
    ),
    "bucket forgets before postgres": (
        {"backup": {"retention": "30d"}, "mongodb": {"retention": "21d"}},
        "backup.retention",
        'is "30d"; it should be at least 31d',
    ),
    "copy in the same region": (
        {"backup": {"replica_region": "us-east-1"}},
        "backup.replica_region",
        "it should be another region than aws:region",
    ),
    "copy in another part of AWS": (
        {"backup": {"replica_region": "us-gov-west-1"}},
        "backup.replica_region",
        "it should be in aws too",
    ),
    "archived too rarely": (
        {"postgres": {"archive_timeout": "10m"}},
        "objectives.postgres.rpo",
        "is 5m; it should be at least 10m",
    ),
    "failover longer than the objective": (
        {"objectives": {"postgres": {"rto": "149s"}}},
        "objectives.postgres.rto",
        'is "149s"; it should be at least 150s',
    ),
    "a backup of the cache that no schedule keeps": (
        {"redis": {"backup_every": "5h"}},
        "redis.backup_every",
        'is "5h"; it should be one of 1h, 2h, 3h,',
    ),
    "backups of the cache that the bucket does not keep": (
        {"redis": {"backup_every": "7d"}, **SHORT_LIVED},
        "redis.backup_every",
        'is "7d"; it should not be longer than backup.retention',
    ),
    "a cache without redis": (
        {"services": {"gateway": {"uses": [], "caches": {"cards": {"ttl": "1h"}}}}},
        "services.gateway.uses",
        "is []; it should name redis too: this service has caches",
    ),
    "stale before it is": (
        {
            "services": {
                "gateway": {
                    "uses": ["redis"],
                    "caches": {"cards": {"ttl": "1h", "stale_while_down": "59m"}},
                }
            }
        },
        "services.gateway.caches.cards.stale_while_down",
        'is "59m"; it should not be below ttl (1h)',
    ),
    "stale without a time to live": (
        {
            "services": {
                "gateway": {"uses": ["redis"], "caches": {"cards": {"stale_while_down": "1h"}}}
            }
        },
        "services.gateway.caches.cards.stale_while_down",
        'is "1h"; it should be left out, or ttl be set',
    ),
    "entries that are never evicted": (
        {
            "redis": {"eviction": "volatile-lru"},
            "services": {"gateway": {"uses": ["redis"], "caches": {"cards": {}}}},
        },
        "services.gateway.caches.cards.ttl",
        "should be set: volatile-lru drops nothing without a time to live",
    ),
    "replicas lag more than the objective": (
        {"redis": {"max_lag": "11s"}},
        "objectives.redis.rpo",
        "is 10s; it should be at least 11s",
    ),
    "noticed too late": (
        {"redis": {"down_after": "21s"}},
        "objectives.redis.rto",
        "is 30s; it should be at least 31s",
    ),
    "archive and copy add up": (
        {"backup": {"replica_region": "us-west-2"}, "objectives": {"region": {"rpo": "19m"}}},
        "objectives.region.rpo",
        'is "19m"; it should be at least 20m',
    ),
    "scaling upside down": (
        {"services": {"gateway": {"replicas": {"min": 5, "max": 4}}}},
        "services.gateway.replicas.max",
        "is 4; it should not be below min (5)",
    ),
    "one path for two probes": (
        {"services": {"gateway": {"probes": {"ready": "/up", "live": "/up"}}}},
        "services.gateway.probes.live",
        'is "/up"; it should differ from ready',
    ),
    "core with a flag": (
        {"services": {"gateway": {"flag": "gateway"}}},
        "services.gateway.flag",
        'is "gateway"; it should be left out: a core service cannot be switched off',
    ),
    "not core and without a flag": (
        {"services": {"news": BEST_EFFORT}},
        "services.news.flag",
        "is missing; it should name the feature flag",
    ),
    "calls itself": (
        {"services": {"gateway": {"calls": ["gateway"]}}},
        "services.gateway.calls[0]",
        "it should name another service: this one is itself",
    ),
    "calls nobody": (
        {"services": {"gateway": {"calls": ["replay", "nobody"]}}},
        "services.gateway.calls[1]",
        'is "nobody"; it should name a service of the catalogue: ai-inference,',
    ),
    "calls twice": (
        {"services": {"gateway": {"calls": ["replay", "replay"]}}},
        "services.gateway.calls[1]",
        "it should be left out: it is in the list already",
    ),
    "uses twice": (
        {"services": {"gateway": {"uses": ["redis", "redis"]}}},
        "services.gateway.uses[1]",
        "it should be left out: it is in the list already",
    ),
    "zone of another region": (
        {"zones": ["us-east-1a", "us-east-1b", "us-west-2c"]},
        "zones[2]",
        'is "us-west-2c"; it should be a zone of aws:region, us-east-1, such as us-east-1a',
    ),
    "zone given twice": (
        {"zones": ["us-east-1a", "us-east-1b", "us-east-1a"]},
        "zones[2]",
        "it should be left out: it is in the list already",
    ),
    "fewer replicas than zones": (
        {
            "zones": [f"us-east-1{letter}" for letter in "abcd"],
            "services": {"simulation-worker": {"replicas": {"min": 4}}}
            | {
                name: {"replicas": {"min": 4}}
                for name in ("simulation-engine", "ai-inference", "deck-analytics", "replay")
            }
            | {"leaderboards": {"replicas": {"min": 4}}},
        },
        "services.gateway.replicas.min",
        "is 3; it should be at least 4, one for each zone",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_do_not_agree_are_refused(case: str, project: Project) -> None:
    sections, key, what = REFUSED[case]
    project.configure(**sections)
    (error,) = project.errors()
    assert f": fault-tolerance:{key} " in error or f": {key} " in error
    assert what in error


ACCEPTED: dict[str, dict[str, Any]] = {
    "a single disposable instance": {
        "protect": False,
        "postgres": {"instances": 1, "synchronous": 0},
    },
    "five instances, two synchronous": {"postgres": {"instances": 5, "synchronous": 2}},
    "five sentinels": {"redis": {"sentinels": 5, "quorum": 3}},
    "nine sentinels, six agree": {"redis": {"sentinels": 9, "quorum": 6}},
    "five servers, two keep up": {"redis": {"replicas": 5, "min_replicas_to_write": 2}},
    "weekly base backups": {"postgres": {"backup_every": "7d", "retention": "28d"}},
    "objective just kept": {"objectives": {"postgres": {"rto": "150s"}, "redis": {"rto": "20s"}}},
    "a copy elsewhere": {"backup": {"replica_region": "us-west-2"}},
    "a slow archive without a copy": {
        "postgres": {"archive_timeout": "1h"},
        "objectives": {"postgres": {"rpo": "1h"}},
    },
    "core calls a service that can be switched off": {
        "services": {"news": BEST_EFFORT | {"flag": "news"}, "desk": CORE | {"calls": ["news"]}}
    },
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_settings_that_agree_are_accepted(case: str, project: Project) -> None:
    project.configure(**ACCEPTED[case])
    project.settings()


def test_a_circle_of_calls_is_told_once_with_its_members(project: Project) -> None:
    services = {
        "a": CORE | {"calls": ["b"]},
        "b": CORE | {"calls": ["c"]},
        "c": CORE | {"calls": ["a"]},
    }
    project.configure(services=services)
    (error,) = project.errors()
    assert "should be left out: it closes the circle" in error
    assert all(f" {name} → " in error for name in "abc")


def test_two_circles_of_calls_are_both_told() -> None:
    pairs = {"a": "b", "b": "a", "c": "d", "d": "c"}
    services = {name: CORE | {"calls": [callee]} for name, callee in pairs.items()}
    given = {
        "region": "us-east-1",
        "zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
        "neo4j": {"accept_license": True, "issuer": "platform"},
    }
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({**given, "services": services})
    assert caught.value.error_count() == 2
