"""For every rule, the weaknesses that it must find, as changes of any stack.

A new subject of rules is a module here with a `MUTATIONS` table, and a line in `_SUBJECTS`.
"""

from __future__ import annotations

from tests.policies.mutations import aws, data, operators, security, workloads
from tests.policies.mutations.making import Mutation

_SUBJECTS = (workloads, security, data, operators, aws)

MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    rule: mutations for subject in _SUBJECTS for rule, mutations in subject.MUTATIONS.items()
}
"""By the rule's name; every rule has at least one."""
