"""Images that take the place of others."""

from __future__ import annotations

import pytest

from stacks import loader
from stacks.settings import Settings
from tests.stacks.conftest import Project

pytestmark = pytest.mark.unit

OWN = "mirror.example.com/own:1"


@pytest.fixture
def settings() -> Settings:
    return loader.from_file("dev")


@pytest.mark.parametrize("image", sorted(loader.from_file("dev").named_images()), ids=str)
def test_every_image_that_is_named_can_be_replaced(settings: Settings, image: str) -> None:
    replaced = settings.model_copy(update={"images": {image: OWN}}).with_replaced_images()
    assert replaced.named_images() == settings.named_images() - {image} | {OWN}


def test_without_replacements_all_stays(settings: Settings) -> None:
    assert settings.with_replaced_images() == settings


def test_what_stands_for_an_image_need_not_be_named_like_it(settings: Settings) -> None:
    """Else the edition of Neo4j, which an image's tag tells, would be judged by a mirror's."""
    own = {settings.neo4j.image: "mirror.example.com/graph:5.26.12"}
    replaced = settings.model_copy(update={"images": own}).with_replaced_images()
    assert replaced.neo4j.image == "mirror.example.com/graph:5.26.12"
    assert replaced.neo4j.edition is settings.neo4j.edition


def test_a_service_that_is_wrong_hides_that_its_image_is_named(project: Project) -> None:
    shop = {"tier": "core", "image": "example.com/shop:1", "port": 1}
    project.configure(services={"shop": shop}, images={"example.com/shop:1": OWN})
    assert project.keys() == ["fault-tolerance:services.shop.port"]
