"""Read the settings inside a Pulumi program, from whatever the engine was given.

The engine's configuration may hold more than the stack file says: environments, values given on the
command line, secrets. So it is what counts; the file, where there is one, only lends its lines to
the messages.
"""

from __future__ import annotations

import json
from pathlib import Path

import pulumi
from pulumi.runtime import config as engine
from pydantic import SecretStr

from stacks.document import Document, read
from stacks.loader import NAMESPACE, ROOT, declared, file_name, load, stack_file
from stacks.problems import SettingsError
from stacks.settings import Settings
from stacks.validation import holds


def from_program(root: Path = ROOT) -> Settings:
    """Read the settings of the stack that the engine runs.

    Raises:
        pulumi.RunError: with everything that is wrong, if anything is. The engine shows its text
            alone, without a traceback.
    """
    stack = pulumi.get_stack()
    try:
        return load(_configuration(), _document(stack, root), root)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None


def _configuration() -> dict[str, object]:
    """All of the engine's configuration; `pulumi.Config` gives only keys that one knows."""
    given = {**engine.get_config_env(), **engine.CONFIG.get()}
    return {key: _value(key, text) for key, text in given.items()}


def _value(key: str, text: str) -> object:
    """What the engine sends as text: lists and mappings as JSON, all else as it is."""
    if engine.is_config_secret(key):
        return SecretStr(text)
    part = declared().get(key.removeprefix(f"{NAMESPACE}:"), {})
    if not (holds(part, "object") or holds(part, "array")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _document(stack: str, root: Path) -> Document:
    """The stack file for its lines; the engine has read it already, so its state is no matter."""
    try:
        found = read(stack_file(stack, root), file_name(stack))
    except SettingsError:
        return Document(f"configuration of stack {stack}")
    return Document(found.name, lines=found.lines)
