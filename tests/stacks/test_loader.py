"""From stack file to settings: the files that ship, and every way of getting one wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stacks.document import Document
from stacks.loader import DEFAULT_CATALOGUE, FOLDER, ROOT, declared, from_file, load, stacks
from stacks.problems import SettingsError
from stacks.settings import Role, Settings, Tier
from stacks.systems.postgres import SourceSettings
from tests.stacks.conftest import VALID, Project

pytestmark = pytest.mark.unit

HEAD = """\
config:
  aws:region: us-east-1
  fault-tolerance:zones: [us-east-1a, us-east-1b, us-east-1c]
  fault-tolerance:neo4j: {accept_license: true, issuer: platform}
"""


def test_four_stacks_ship() -> None:
    assert stacks() == ["dev", "dr", "prod", "staging"]


@pytest.mark.parametrize("stack", stacks())
def test_a_stack_that_ships_spans_three_zones_with_every_service(stack: str) -> None:
    found = from_file(stack)
    assert len(found.zones) == 3
    assert min(service.replicas.min for service in found.services.values()) >= 3


@pytest.mark.parametrize("stack", stacks())
def test_the_games_run_on_core_services_alone(stack: str) -> None:
    core = {name for name, entry in from_file(stack).services.items() if entry.tier is Tier.CORE}
    assert core == {"gateway", "simulation-engine", "simulation-worker", "ai-inference"}


def test_dr_mirrors_prod_in_another_region() -> None:
    prod, dr = from_file("prod"), from_file("dr")
    differs = {"region", "zones", "role", "backup", "kafka", "postgres"}
    assert dr.model_dump(exclude=differs) == prod.model_dump(exclude=differs)
    assert (prod.role, dr.role) == (Role.ACTIVE, Role.STANDBY)
    assert (dr.region, prod.region) == (prod.backup.replica_region, dr.backup.replica_region)
    assert dr.backup.retention == prod.backup.retention
    assert dr.kafka.source == prod.kafka.host
    ends = {"host", "source"}
    assert dr.kafka.model_dump(exclude=ends) == prod.kafka.model_dump(exclude=ends)
    copied = f"{prod.prefix}-prod-backups-{prod.backup.replica_region}"
    assert dr.postgres.source == SourceSettings(bucket=copied, server=prod.postgres.archive)
    assert dr.postgres.model_copy(update={"source": None}) == prod.postgres


def test_staging_has_the_shape_of_prod() -> None:
    def shape(found: Settings) -> object:
        return (
            found.protect,
            found.objectives,
            found.postgres.instances,
            found.postgres.synchronous,
            found.redis.model_dump(exclude={"storage", "memory", "cpu"}),
            found.kafka.model_dump(include={"version", "brokers", "controllers", "min_in_sync"}),
            found.topics,
            {name: (s.tier, s.calls, s.uses, s.flag) for name, s in found.services.items()},
        )

    assert shape(from_file("staging")) == shape(from_file("prod"))


def test_a_section_is_laid_over_its_defaults_key_by_key(project: Project) -> None:
    project.configure(postgres={"resources": {"cpu": "4"}}, objectives={"redis": {"rpo": "20s"}})
    found = project.settings()
    assert (found.postgres.resources.cpu, found.postgres.resources.memory) == ("4", "8Gi")
    assert (found.objectives.redis.rpo, found.objectives.redis.rto) == (20, 30)


def test_a_service_is_laid_over_the_catalogue_key_by_key(project: Project) -> None:
    project.configure(services={"simulation-worker": {"replicas": {"max": 12}}})
    worker = project.settings().services["simulation-worker"]
    assert (worker.replicas.min, worker.replicas.max, worker.shutdown) == (6, 12, 120)


def test_another_catalogue_replaces_the_one_that_ships(project: Project) -> None:
    text = "services:\n  shop: {tier: core, image: 'example.com/shop:1'}\n"
    (project.root / "stacks" / "shop.yaml").write_text(text)
    project.configure(catalogue="shop.yaml")
    assert list(project.settings().services) == ["shop"]


def test_what_the_engine_writes_for_a_boolean_is_one(project: Project) -> None:
    project.configure(protect="false")
    assert project.settings().protect is False


def test_keys_of_other_namespaces_are_let_be(project: Project) -> None:
    project.write(HEAD + "  aws:secretKey: {secure: 'v1:abc'}\n  kubernetes:context: mine\n")
    project.settings()


MESSAGES = {
    "wrong type": (
        "  fault-tolerance:postgres:\n    instances: three\n",
        'stacks/Pulumi.test.yaml:6: fault-tolerance:postgres.instances is "three"; '
        "it should be a whole number from 1 to 100",
    ),
    "no replicas": (
        "  fault-tolerance:services:\n    gateway:\n      replicas: {min: 0}\n",
        "stacks/Pulumi.test.yaml:7: fault-tolerance:services.gateway.replicas.min is 0; "
        "it should be a whole number from 3 to 100",
    ),
    "a million replicas": (
        "  fault-tolerance:services:\n    gateway:\n      replicas: {max: 1000000}\n",
        "stacks/Pulumi.test.yaml:7: fault-tolerance:services.gateway.replicas.max is 1000000; "
        "it should be a whole number from 3 to 100",
    ),
    "an RPO of soon": (
        "  fault-tolerance:objectives:\n    postgres:\n      rpo: soon\n",
        'stacks/Pulumi.test.yaml:7: fault-tolerance:objectives.postgres.rpo is "soon"; '
        "it should be a time from 0s to 7d, such as 30s, 5m, 1h or 7d",
    ),
    "unknown key": (
        "  fault-tolerance:postgress: {}\n",
        "stacks/Pulumi.test.yaml:5: fault-tolerance:postgress is not known; "
        "did you mean fault-tolerance:postgres?",
    ),
    "unknown key within": (
        "  fault-tolerance:services:\n    gateway: {replica: 3}\n",
        "stacks/Pulumi.test.yaml:6: fault-tolerance:services.gateway.replica is not known; "
        "did you mean replicas?",
    ),
    "region of our own": (
        "  fault-tolerance:region: us-east-1\n",
        "stacks/Pulumi.test.yaml:5: fault-tolerance:region is not known; "
        "the region is aws:region, which the provider reads too",
    ),
    "misspelled namespace": (
        "  fault-tolerence:prefix: x\n",
        "stacks/Pulumi.test.yaml:5: fault-tolerence:prefix is in a namespace that nobody reads; "
        "did you mean fault-tolerance:prefix?",
    ),
    "no namespace": (
        "  prefix: x\n",
        "stacks/Pulumi.test.yaml:5: prefix should have a namespace: "
        "did you mean fault-tolerance:prefix?",
    ),
    "unknown choice": (
        "  fault-tolerance:role: primary\n",
        'stacks/Pulumi.test.yaml:5: fault-tolerance:role is "primary"; '
        "it should be one of active, standby",
    ),
    "not a boolean": (
        "  fault-tolerance:protect: yes\n",
        'stacks/Pulumi.test.yaml:5: fault-tolerance:protect is "yes"; it should be true or false',
    ),
    "section that is no mapping": (
        "  fault-tolerance:services:\n    gateway: {replicas: three}\n",
        'stacks/Pulumi.test.yaml:6: fault-tolerance:services.gateway.replicas is "three"; '
        "it should be a mapping with keys out of min, max",
    ),
    "empty section": (
        "  fault-tolerance:services:\n    gateway:\n      replicas:\n",
        "stacks/Pulumi.test.yaml:7: fault-tolerance:services.gateway.replicas is empty; "
        "it should be a mapping with keys out of min, max",
    ),
    "service name that cannot be": (
        "  fault-tolerance:services:\n    My_Shop: {tier: core, image: 'example.com/shop:1'}\n",
        "stacks/Pulumi.test.yaml:6: fault-tolerance:services.My_Shop is not a name that can be "
        "used; it should be a name of at most 40 lower-case letters, digits and dashes, "
        "starting with a letter, such as deck-analytics",
    ),
    "encrypted": (
        "  fault-tolerance:prefix: {secure: 'v1:hunter2'}\n",
        "stacks/Pulumi.test.yaml:5: fault-tolerance:prefix is encrypted, but this setting is no "
        "secret: what is made of it can be read in the state; write it in clear",
    ),
    "secret in the wrong place": (
        "  fault-tolerance:services:\n    gateway: {environment: {DB_PASSWORD: 5}}\n",
        "stacks/Pulumi.test.yaml:6: fault-tolerance:services.gateway.environment.DB_PASSWORD is "
        "(not shown: it looks like a secret); it should be text, in quotes where it looks like a "
        "number",
    ),
    "catalogue that is missing": (
        "  fault-tolerance:catalogue: catalog.yaml\n",
        'stacks/Pulumi.test.yaml:5: fault-tolerance:catalogue is "catalog.yaml"; '
        "it should be a YAML file in stacks/ with services and topics, such as catalogue.yaml",
    ),
    "catalogue that is no name": (
        "  fault-tolerance:catalogue: [a]\n",
        "stacks/Pulumi.test.yaml:5: fault-tolerance:catalogue is [a]; "
        "it should be a YAML file in stacks/ with services and topics, such as catalogue.yaml",
    ),
    "unknown section": (
        "confg: {}\n",
        "stacks/Pulumi.test.yaml:5: confg is not known at the top of a stack file; "
        "did you mean config?",
    ),
    "key given twice": (
        "  fault-tolerance:prefix: a\n  fault-tolerance:prefix: b\n",
        "stacks/Pulumi.test.yaml:6: fault-tolerance:prefix is given twice, first on line 5: "
        "keep one",
    ),
    "alias": (
        "  fault-tolerance:prefix: &name sim\n  fault-tolerance:role: *name\n",
        "stacks/Pulumi.test.yaml:6: fault-tolerance:role is a YAML alias (*): write the value out",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_a_mistake_is_told_in_one_clear_line(case: str, project: Project) -> None:
    text, message = MESSAGES[case]
    project.write(HEAD + text)
    assert project.errors() == [message]


def test_one_zone_is_told_with_the_list(project: Project) -> None:
    project.write(
        "config:\n  aws:region: us-east-1\n  fault-tolerance:zones: [us-east-1a]\n"
        "  fault-tolerance:neo4j: {accept_license: true, issuer: platform}\n"
    )
    assert project.errors() == [
        "stacks/Pulumi.test.yaml:3: fault-tolerance:zones is [us-east-1a]; it should be a list of "
        "at least 3 availability zones, such as [us-east-1a, us-east-1b, us-east-1c]"
    ]


def test_what_is_missing_is_told(project: Project) -> None:
    project.write("config:\n  fault-tolerance:neo4j: {accept_license: true, issuer: platform}\n")
    assert project.errors() == [
        "stacks/Pulumi.test.yaml: aws:region is missing; "
        "it should be a region of AWS outside of China, such as us-east-1",
        "stacks/Pulumi.test.yaml: fault-tolerance:zones is missing; it should be a list of "
        "at least 3 availability zones, such as [us-east-1a, us-east-1b, us-east-1c]",
    ]


def test_the_region_is_told_by_the_key_that_sets_it(project: Project) -> None:
    project.write(HEAD.replace("aws:region: us-east-1", "aws:region: Virginia"))
    assert project.errors() == [
        'stacks/Pulumi.test.yaml:2: aws:region is "Virginia"; '
        "it should be a region of AWS outside of China, such as us-east-1"
    ]


def test_everything_wrong_is_told_at_once_sorted_by_line(project: Project) -> None:
    project.write(
        """\
config:
  aws:region: us-east-1
  fault-tolerance:services:
    gateway: {calls: [nobody], port: http}
    replay: {flag: ~}
  fault-tolerance:redis: {quorum: 3, storage: lots}
  fault-tolerance:backup: {retention: 30d, lock: 40d, replica_region: us-east-1}
  fault-tolerance:zones: [us-east-1a, us-east-1b, us-west-2c]
  fault-tolerance:zoness: []
  fault-tolerance:neo4j: {accept_license: true, issuer: platform}
"""
    )
    assert [error.split(" ")[:2] for error in project.errors()] == [
        ["stacks/Pulumi.test.yaml:4:", "fault-tolerance:services.gateway.calls[0]"],
        ["stacks/Pulumi.test.yaml:4:", "fault-tolerance:services.gateway.port"],
        ["stacks/Pulumi.test.yaml:5:", "fault-tolerance:services.replay.flag"],
        ["stacks/Pulumi.test.yaml:6:", "fault-tolerance:redis.quorum"],
        ["stacks/Pulumi.test.yaml:6:", "fault-tolerance:redis.storage"],
        ["stacks/Pulumi.test.yaml:7:", "fault-tolerance:backup.lock"],
        ["stacks/Pulumi.test.yaml:7:", "fault-tolerance:backup.replica_region"],
        ["stacks/Pulumi.test.yaml:8:", "fault-tolerance:zones[2]"],
        ["stacks/Pulumi.test.yaml:9:", "fault-tolerance:zoness"],
    ]


def test_what_follows_from_a_mistake_is_not_told_as_another(project: Project) -> None:
    project.configure(redis={"sentinels": "many", "quorum": 5})
    assert project.keys() == ["fault-tolerance:redis.sentinels"]


def test_a_mistake_in_the_catalogue_is_told_there(project: Project) -> None:
    text = "services:\n  shop:\n    tier: core\n    image: example.com/shop\n"
    (project.root / "stacks" / DEFAULT_CATALOGUE).write_text(text)
    project.configure(services={"shop": {"port": 1}})
    own, catalogue = project.errors()
    assert own.startswith("stacks/Pulumi.test.yaml:8: fault-tolerance:services.shop.port ")
    assert catalogue.startswith(
        'stacks/catalogue.yaml:4: services.shop.image is "example.com/shop"; '
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: [", "stacks/catalogue.yaml:1: is not YAML: "),
        ("", "stacks/catalogue.yaml: services is empty; it should be a mapping of names to"),
        ("services: 5\n", "stacks/catalogue.yaml:1: services is 5; it should be a mapping"),
        ("services: {}\nmore: 1\n", "stacks/catalogue.yaml:2: more is not known; there are"),
    ],
)
def test_a_catalogue_that_is_none_is_told(project: Project, text: str, error: str) -> None:
    (project.root / "stacks" / DEFAULT_CATALOGUE).write_text(text)
    project.configure()
    (found,) = project.errors()
    assert found.startswith(error)


def test_a_broken_catalogue_hides_no_other_mistake(project: Project) -> None:
    project.configure(catalogue="none.yaml", prefix="NO", services={"gateway": {"port": 8080}})
    assert project.keys() == ["fault-tolerance:catalogue", "fault-tolerance:prefix"]


def test_a_stack_that_is_not_there_is_told_with_those_that_are(project: Project) -> None:
    assert project.errors("prdo") == [
        'no stack "prdo": there are dev, dr, prod, staging; did you mean prod?'
    ]


@pytest.mark.parametrize("stack", ["", "../dev", "a/b", "\0", "dev\n", "x" * 999])
def test_a_name_that_no_stack_can_have_is_told(project: Project, stack: str) -> None:
    (error,) = project.errors(stack)
    assert error.startswith("no stack ")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("secretsprovider: &a 1\nconfig: *a\n", "config"),
        (HEAD + "  aws:b: &a 1\n  fault-tolerance:catalogue: *a\n", "fault-tolerance:catalogue"),
    ],
)
def test_an_alias_is_told_once(project: Project, text: str, key: str) -> None:
    project.write(text)
    (error,) = project.errors()
    assert error.endswith(f"{key} is a YAML alias (*): write the value out")


def test_an_alias_in_the_place_of_a_catalogue_is_told_once(project: Project) -> None:
    text = "topics: &a {}\nservices: *a\n"
    (project.root / "stacks" / DEFAULT_CATALOGUE).write_text(text)
    project.configure()
    assert project.errors() == [
        "stacks/catalogue.yaml:2: services is a YAML alias (*): write the value out"
    ]


def test_a_configuration_that_is_no_mapping_is_told(project: Project) -> None:
    project.write("config: [a]\n")
    assert project.errors() == [
        "stacks/Pulumi.test.yaml:1: config is [a]; "
        "it should be a mapping from keys such as fault-tolerance:zones"
    ]


KEYS = st.one_of(
    st.sampled_from([*VALID, *(f"fault-tolerance:{name}" for name in declared())]), st.text()
)
WORDS = st.sampled_from(
    [
        "min",
        "max",
        "replicas",
        "gateway",
        "rpo",
        "postgres",
        "quorum",
        "tier",
        "core",
        "5m",
        "calls",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES, max_size=8), st.booleans())
def test_any_configuration_gives_settings_or_says_what_is_wrong(
    config: dict[str, Any], complete: bool
) -> None:
    try:
        found = load(VALID | config if complete else config, Document("any"), ROOT)
    except SettingsError as error:
        assert all(str(problem).isprintable() for problem in error.problems)
        assert error.problems
    else:
        assert isinstance(found, Settings)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.text(alphabet=":-[]{}&*!|>'\"#%@,?\n\t ab1"))
def test_any_text_gives_settings_or_says_what_is_wrong(project: Project, text: str) -> None:
    path = project.root / FOLDER / "Pulumi.any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SettingsError):
        from_file("any", project.root)


def test_the_folder_of_the_project_is_found() -> None:
    assert (ROOT / "Pulumi.yaml").is_file()
    assert Path(ROOT, FOLDER, DEFAULT_CATALOGUE).is_file()
