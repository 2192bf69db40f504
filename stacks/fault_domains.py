"""How much goes with a fault domain, and how much of a group must be left."""

from __future__ import annotations

from typing import Final

ZONES: Final = 3
"""Fewest zones of a stack: losing one takes at most a third of the servers, rounded up."""


REGION_COPY: Final = 900
"""Seconds within which S3 copies an object to another region: Replication Time Control holds for
99.99 % of them, and knows no other time."""


def lost_with_a_zone(servers: int) -> int:
    """Servers that go with one zone when all are spread evenly: a third, rounded up."""
    return -(-servers // ZONES)


def majority(voters: int) -> int:
    """The fewest of the voters that can decide."""
    return voters // 2 + 1
