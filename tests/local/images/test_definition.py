"""What may stand in the definition of an image, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.errors import LocalError
from local.images.definition import DIGESTS, FOLDER, definitions, load

pytestmark = pytest.mark.unit


def refusal(folder: Path, text: str) -> str:
    """What is said about a wrong definition."""
    path = folder / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(LocalError) as refused:
        load(path)
    return str(refused.value)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_first_line_says_what_an_image_is(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_every_definition_can_be_read() -> None:
    assert set(definitions()) == {path.stem for path in FOLDER.glob("*.yaml")}


def test_an_unknown_key_is_refused_with_its_name(tmp_path: Path) -> None:
    assert "pakages" in refusal(tmp_path, "base: debian\npakages: [bash]\n")


def test_a_path_that_would_hide_a_link_of_the_base_is_refused(tmp_path: Path) -> None:
    assert "use /usr/bin/dns" in refusal(tmp_path, "base: none\nprograms: {coredns: /bin/dns}\n")


def test_a_path_that_leads_out_of_the_image_is_refused(tmp_path: Path) -> None:
    assert "/a/../../b" in refusal(tmp_path, "base: none\nfolders: {/a/../../b: }\n")


def test_a_program_that_nothing_builds_is_refused(tmp_path: Path) -> None:
    assert "'nothing'" in refusal(tmp_path, "base: none\nprograms: {nothing: /nothing}\n")


def test_a_python_package_without_version_is_refused(tmp_path: Path) -> None:
    assert "'boto3'" in refusal(tmp_path, "base: debian\npython: [boto3]\n")


def test_a_jar_without_version_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, "base: none\nmaven: {jars: [org.slf4j:slf4j-api], folder: /libs}\n")
    assert "'org.slf4j:slf4j-api'" in said


def test_jars_without_recorded_digests_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, "base: none\nmaven: {jars: ['a:b:1'], folder: /libs}\n")
    assert str(tmp_path / "wrong" / DIGESTS) in said


def test_a_folder_of_an_unknown_user_is_refused(tmp_path: Path) -> None:
    assert "'sheep'" in refusal(tmp_path, "base: none\nfolders: {/data: {owner: sheep}}\n")


def test_a_file_that_is_not_there_is_refused_with_its_path(tmp_path: Path) -> None:
    said = refusal(tmp_path, "base: none\nfiles: {app.py: /app.py}\n")
    assert str(tmp_path / "wrong" / "app.py") in said


def test_what_is_no_yaml_is_refused(tmp_path: Path) -> None:
    assert "not YAML" in refusal(tmp_path, "base: [")
