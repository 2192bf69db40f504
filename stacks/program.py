"""Read the settings inside a Pulumi program, from whatever the engine was given.

The engine's configuration may hold more than the stack file says: environments, values given on the
command line, secrets. So it is what counts; the file, where there is one, only lends its lines to
the messages.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pulumi
from pulumi.runtime import config as engine
from pydantic import SecretStr

from stacks import guards
from stacks.document import Document, read
from stacks.loader import NAMESPACE, ROOT, declared, file_name, load, refusal, stack_file
from stacks.problems import SettingsError
from stacks.settings import Settings
from stacks.validation import holds

_PAUSES = (0.1, 0.2, 0.4, 0.8)
"""Seconds between tries to read the state; a write of it takes milliseconds."""


def from_program(root: Path = ROOT) -> Settings:
    """Read the settings of the stack that the engine runs.

    Raises:
        pulumi.RunError: with everything that is wrong, if anything is. The engine shows its text
            alone, without a traceback.
    """
    document = _document(pulumi.get_stack(), root)
    try:
        return load(_configuration(document), replace(document, value={}), root)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None


def forbid_losses(settings: Settings, root: Path = ROOT) -> None:
    """Stop before anything is declared if data would be lost that the last update declared.

    Raises:
        pulumi.RunError: with everything that would be, if anything.
    """
    if found := list(guards.losses(settings, _last_declared())):
        document = _document(pulumi.get_stack(), root)
        error = refusal(found, _configuration(document), replace(document, value={}), root)
        raise pulumi.RunError(str(error))


def _last_declared() -> guards.Declared:
    """What the last update declared, from the stack's own output; empty if there was none.

    The engine keeps the output when a program fails. A `StackReference` reads the same, but only
    while resources are already being declared.

    Raises:
        pulumi.RunError: if the state cannot be read. One that is kept in files cannot be for a
            moment whenever the engine writes to it: of 600 reads that 600 writes met, 12 failed.
    """
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    for pause in (*_PAUSES, None):
        try:
            read = pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", {"name": name})
        except Exception as error:  # noqa: BLE001, its refusals have no class of their own
            if pause is None or "failed to load checkpoint" not in str(error):
                raise pulumi.RunError(f"what the last update declared: {error}") from None
            time.sleep(pause)
        else:
            break
    last: guards.Declared = read.value["outputs"].get(guards.OUTPUT, {})
    return last


def _configuration(document: Document) -> dict[str, object]:
    """All of the engine's configuration; `pulumi.Config` gives only keys that one knows."""
    given = {**engine.get_config_env(), **engine.CONFIG.get()}
    filed = document.value.get("config")
    filed = filed if isinstance(filed, Mapping) else {}
    return {key: _value(key, text, filed.get(key)) for key, text in given.items()}


def _value(key: str, text: str, filed: object) -> object:
    """What the engine sends as text: lists and mappings as JSON, all else as it is.

    The engine tells that a key holds a secret, not where in it. The file does; without a file the
    whole value is taken for one.
    """
    value: object = text
    part = declared().get(key.removeprefix(f"{NAMESPACE}:"), {})
    if holds(part, "object") or holds(part, "array"):
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
    if not engine.is_config_secret(key):
        return value
    marked = _marked(value, filed)
    return SecretStr(text) if marked == value else marked


def _marked(value: object, filed: object) -> object:
    """Mark as secret what is encrypted in the file."""
    if isinstance(filed, SecretStr):
        return SecretStr(str(value))
    if isinstance(value, dict) and isinstance(filed, Mapping):
        return {name: _marked(item, filed.get(name)) for name, item in value.items()}
    return value


def _document(stack: str, root: Path) -> Document:
    """The stack file. What is wrong in it as a file is the engine's to say: it has read it too."""
    try:
        return replace(read(stack_file(stack, root), file_name(stack)), problems=())
    except SettingsError:
        return Document(f"configuration of stack {stack}")
