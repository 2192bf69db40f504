"""Write docs/settings.md, the reference of every setting, from the models.

`python -m stacks.reference` writes it anew; a test holds the committed page to the models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from stacks.loader import NAMESPACE, REGION, ROOT, declared
from stacks.validation import Schema, expected, resolve, schema
from stacks.values import duration

PAGE: Final = ROOT / "docs" / "settings.md"

_REQUIRED: Final = object()

_HEAD: Final = f"""# Settings

Every key that a stack file, `stacks/Pulumi.<stack>.yaml`, can set. Written from
`stacks/settings.py` by `python -m stacks.reference`.

Keys are in the namespace `{NAMESPACE}`, one for each section; what is inside a section is nested.
A stack file says only what differs: a section is laid over its defaults key by key, and a
service over its entry in the catalogue. A list replaces the whole list.

```yaml
config:
  aws:region: us-east-1
  {NAMESPACE}:zones: [us-east-1a, us-east-1b, us-east-1c]
  {NAMESPACE}:postgres:
    storage: 50Gi
```

A time is a whole number with a unit: `s`, `m`, `h` or `d`.
Rules that span settings, such as a quorum that must be a majority, are in `stacks/rules.py`.
"""


def page() -> str:
    """The whole reference as Markdown."""
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    region = schema()["properties"]["region"]
    tops = {REGION: region, **{f"{NAMESPACE}:{name}": part for name, part in declared().items()}}
    plain = {key: part for key, part in tops.items() if not _nested(part)}
    yield from _table(
        "Whole stack", [_row(key, part, _default(part)) for key, part in plain.items()]
    )
    for key, part in tops.items():
        if key not in plain:
            rows = list(_rows("", part, part.get("default", {})))
            yield from _table(f"`{key}`", rows, _meaning(part))


def _table(title: str, rows: list[str], lead: str = "") -> Iterator[str]:
    yield f"## {title}\n"
    if lead:
        yield f"{lead}\n"
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    yield from rows
    yield ""


def _nested(part: Schema) -> bool:
    return _inner(part) is not None


def _inner(part: Schema) -> tuple[str, Schema] | None:
    """The prefix and schema of what a mapping holds; None for a plain value."""
    found = resolve(part)
    if "properties" in found:
        return "", found
    values = [resolve(entry) for entry in found.get("patternProperties", {}).values()]
    named = [entry for entry in values if "properties" in entry]
    return ("<name>.", named[0]) if named else None


def _rows(prefix: str, part: Schema, default: object) -> Iterator[str]:
    inner = _inner(part)
    if inner is None:
        yield _row(prefix.removesuffix("."), part, default)
        return
    name_prefix, found = inner
    for name, entry in found["properties"].items():
        given = default.get(name, _REQUIRED) if isinstance(default, dict) else _REQUIRED
        value = _default(entry) if given is _REQUIRED else given
        yield from _rows(f"{prefix}{name_prefix}{name}.", entry, value)


def _default(part: Schema) -> object:
    return part.get("default", _REQUIRED)


def _row(key: str, part: Schema, default: object) -> str:
    return f"| `{key}` | {expected(part)} | {_shown(default, part)} | {_meaning(part)} |"


def _shown(default: object, part: Schema) -> str:
    if default is _REQUIRED:
        return "required"
    if default is None or default in ([], {}):
        return "none"
    if resolve(part).get("form") == "duration" and isinstance(default, int):
        return f"`{duration(default)}`"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _meaning(part: Schema) -> str:
    return " ".join(str(resolve(part).get("description", "")).split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
