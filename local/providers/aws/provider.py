"""Answer the engine: check, diff, create, read, update, delete, for the types of the tables."""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pulumi.provider.experimental import provider as sdk
from pulumi.provider.experimental.property_value import PropertyValue

from local.providers.aws import iam, kms, s3
from local.providers.aws.clients import Aws, Clients, readable_errors
from local.providers.aws.functions import FUNCTIONS
from local.providers.aws.resource import (
    ResourceType,
    Values,
    all_tags,
    canonical,
    observed_inputs,
    own_tags,
)
from local.providers.protocol import (
    UNKNOWN,
    InitFailed,
    Path,
    Properties,
    ProviderError,
    StandIn,
    contains_unknown,
    diff_response,
    from_plain_map,
    old_inputs,
    redact,
    secret_strings,
    to_plain,
)

T = TypeVar("T")

VERSION: Final = "7.51.1"
"""The plugin stood in for; the SDK of the same version asks for exactly it."""
TYPES: Final[Mapping[str, ResourceType]] = {**s3.TYPES, **kms.TYPES, **iam.TYPES}

_DEFAULTED: Final = "__defaults"
_SUFFIX_DIGITS: Final = 7
_REGION: Final = re.compile(r"[a-z]{2,3}(-[a-z]+)+-\d")


@dataclass(frozen=True)
class Settings:
    """The provider's configuration, as far as this stand-in knows it."""

    region: str = ""
    default_tags: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(config: Mapping[str, Any]) -> "Settings":
        """Read the provider's inputs; environment variables are the real plugin's."""
        environment = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        tags = config.get("defaultTags") or {}
        if isinstance(tags, str):
            tags = json.loads(tags)
        return Settings(config.get("region") or environment or "", tags.get("tags") or {})

    def problem(self) -> str | None:
        """What a person must mend before anything works."""
        if not self.region:
            return (
                "no AWS region is set: set `aws:region` in the stack file (such as us-east-1), "
                "AWS_REGION, or `region` of an explicit provider"
            )
        if not _REGION.fullmatch(self.region):
            return f"region is {self.region}; it should be one of AWS's, such as us-east-1"
        if not os.environ.get("AWS_ENDPOINT_URL"):
            return (
                "the stand-in for the aws provider works on a local endpoint only: set "
                "AWS_ENDPOINT_URL, or PROVIDERS=real for the real plugin and the real AWS"
            )
        return None


class AwsProvider(StandIn):
    """The provider; one process serves every explicit provider of its configuration."""

    _settings: Settings
    _clients: Clients

    # --- the provider itself ---

    async def get_schema(self, request: sdk.GetSchemaRequest) -> sdk.GetSchemaResponse:  # noqa: ARG002
        """A schema without types: the programs' SDK already has them."""
        return sdk.GetSchemaResponse(f'{{"name": "aws", "version": "{VERSION}"}}')

    async def check_config(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Refuse a configuration that cannot work."""
        config = to_plain(request.new_inputs)
        problem = None if contains_unknown(config) else Settings.of(config).problem()
        failures = [sdk.CheckFailure("", problem)] if problem else []
        return sdk.CheckResponse(request.new_inputs, failures)

    async def configure(self, request: sdk.ConfigureRequest) -> sdk.ConfigureResponse:
        """Remember where AWS is; nothing is asked of it yet."""
        self._settings = Settings.of(to_plain(request.args))
        self._clients = Clients(os.environ.get("AWS_ENDPOINT_URL", ""))
        return sdk.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def invoke(self, request: sdk.InvokeRequest) -> sdk.InvokeResponse:
        """Call one of the functions."""
        function = FUNCTIONS.get(request.tok)
        if function is None:
            raise _unsupported(request.tok, FUNCTIONS)
        arguments = to_plain(request.args)
        aws = self._in(arguments)
        result = await _call(request.tok, function, aws, arguments, hide=request.args)
        return sdk.InvokeResponse(from_plain_map(result, like=request.args))

    # --- inputs ---

    async def check(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Write documents as JSON, make up a name, refuse what cannot be."""
        kind = _type(request.type)
        inputs = {k: v for k, v in request.new_inputs.items() if v.value is not None}
        for name in kind.documents:
            if name in inputs:
                inputs[name] = _document(inputs[name])
        _name(kind, request, inputs)
        return sdk.CheckResponse(inputs, _problems(kind, to_plain(inputs)))

    async def diff(self, request: sdk.DiffRequest) -> sdk.DiffResponse:
        """What would change, and whether that needs another resource."""
        kind = _type(request.type)
        state, new_inputs = to_plain(request.old_state), to_plain(request.new_inputs)
        old = {**self._complete(kind, to_plain(old_inputs())), **_observed_there(kind, state)}
        new = self._complete(kind, new_inputs)
        for name in kind.kept:
            if name in old and name not in new:
                new[name] = old[name]
        if old.get("tags") != new.get("tags"):  # says it all
            old.pop("tagsAll", None)
            new.pop("tagsAll", None)
        for values in (old, new):
            values.update({k: canonical(values[k]) for k in kind.documents if k in values})

        def replaces(path: Path) -> bool:
            return path[0] in kind.immutable

        return diff_response(
            old, new, replaces=replaces, delete_before_replace=_same_name(kind, old, new_inputs)
        )

    def _complete(self, kind: ResourceType, inputs: Mapping[str, Any]) -> Values:
        values = kind.complete(inputs)
        if kind.regional:
            values.setdefault("region", self._settings.region)
        if kind.tagged:
            values["tagsAll"] = all_tags(values.get("tags"), self._settings.default_tags)
        return values

    def _in(self, values: Mapping[str, Any]) -> Aws:
        return Aws(self._clients, values.get("region") or self._settings.region)

    # --- resources ---

    async def create(self, request: sdk.CreateRequest) -> sdk.CreateResponse:
        """Create it, or take it if it is already what is asked for."""
        kind = _type(request.type)
        inputs = self._complete(kind, to_plain(request.properties))
        if request.preview:
            left_out = [k for k in (*kind.computed, *kind.kept) if k not in inputs]
            preview = {**inputs, **dict.fromkeys(left_out, UNKNOWN)}
            return sdk.CreateResponse(None, _wire(preview, like=request.properties))
        aws = self._in(inputs)
        what = f"creating {request.name}"
        identity = await _call(what, kind.create, aws, inputs, hide=request.properties)
        try:
            if kind.bare:
                await _call(what, kind.update, aws, identity, inputs, hide=request.properties)
            found = await _call(what, kind.read, aws, identity, hide=request.properties)
        except ProviderError as error:
            outputs = _wire(inputs, like=request.properties)
            raise InitFailed(identity, outputs, [str(error)]) from None
        outputs = _outputs(kind, inputs, found or {}, like=request.properties)
        return sdk.CreateResponse(identity, outputs)

    async def update(self, request: sdk.UpdateRequest) -> sdk.UpdateResponse:
        """Make it what the inputs say."""
        kind = _type(request.type)
        inputs = self._complete(kind, to_plain(request.news))
        state = to_plain(request.olds)
        if request.preview:
            kept = {k: state[k] for k in (*kind.computed, *kind.kept) if k in state}
            return sdk.UpdateResponse(_wire({**kept, **inputs}, like=request.news))
        aws, what = self._in(inputs), f"updating {request.name}"
        await _call(what, kind.update, aws, request.resource_id, inputs, hide=request.news)
        found = await _call(what, kind.read, aws, request.resource_id, hide=request.news)
        return sdk.UpdateResponse(_outputs(kind, inputs, found or {}, like=request.news))

    async def read(self, request: sdk.ReadRequest) -> sdk.ReadResponse:
        """What it is now; nothing if it is gone. An import's id may end in `@<region>`."""
        kind = _type(request.type)
        state, old = to_plain(request.properties), to_plain(request.inputs)
        identity, at, region = request.resource_id.rpartition("@")
        if at and kind.regional and not state:
            old["region"] = region
        else:
            identity = request.resource_id
        aws = self._in({**state, **old})
        found = await _call(
            f"reading {request.name}", kind.read, aws, identity, hide=request.properties
        )
        if found is None:
            return sdk.ReadResponse()
        if kind.tagged:
            defaults = self._settings.default_tags
            found["tags"] = own_tags(found["tagsAll"], old.get("tags"), defaults)
        inputs = observed_inputs(kind, old, found)
        known = kind.complete({**state, **inputs})
        outputs = _outputs(kind, known, found, like=request.inputs)
        return sdk.ReadResponse(identity, outputs, from_plain_map(inputs, like=request.inputs))

    async def delete(self, request: sdk.DeleteRequest) -> None:
        """Delete it; if it is gone already, all is well."""
        kind, state = _type(request.type), to_plain(request.properties)
        aws, what = self._in(state), f"deleting {request.name}"
        identity, hide = request.resource_id, request.properties
        if await _call(what, kind.read, aws, identity, hide=hide) is not None:
            await _call(what, kind.delete, aws, identity, state, hide=hide)


async def _call(
    what: str,
    function: Callable[..., T],
    *arguments: object,
    hide: Properties,
) -> T:
    """Run a function of the tables in a thread; its errors become readable and free of secrets."""

    def run() -> T:
        with readable_errors(what):
            return function(*arguments)

    try:
        return await asyncio.to_thread(run)
    except ProviderError as error:
        raise ProviderError(redact(str(error), secret_strings(hide))) from None


def _outputs(kind: ResourceType, inputs: Values, found: Values, like: Properties) -> Properties:
    """What was found, in the program's words where they mean the same, and what is not observed."""
    old = {k: v for k, v in inputs.items() if k in kind.inputs}
    return _wire({**inputs, **found, **observed_inputs(kind, old, found)}, like)


def _wire(values: Values, like: Properties) -> Properties:
    """Outputs for the engine, secret where the inputs are: a secret tag is so in all tags too."""
    pattern = {**like, "tagsAll": like["tags"]} if "tags" in like else like
    return from_plain_map({k: v for k, v in values.items() if v is not None}, like=pattern)


def _type(path: str) -> ResourceType:
    """The entry of a resource's type, which the engine writes after those of its parents."""
    token = path.rpartition("$")[2]
    if token not in TYPES:
        raise _unsupported(token, TYPES)
    return TYPES[token]


def _unsupported(token: str, table: Mapping[str, object]) -> ProviderError:
    supported = ", ".join(sorted(re.sub("^aws:|/[^:]*", "", name) for name in table))
    return ProviderError(
        f"the stand-in for the aws provider has no {token}; it has {supported}. "
        "PROVIDERS=real uses the real plugin"
    )


def _document(value: PropertyValue) -> PropertyValue:
    """A policy given as an object, as JSON."""
    plain = to_plain(value)
    if not isinstance(plain, dict):
        return value
    if contains_unknown(plain):
        return from_plain_map({"": UNKNOWN})[""].with_secret(value.contains_secret())
    return PropertyValue(json.dumps(plain), is_secret=value.contains_secret())


def _name(kind: ResourceType, request: sdk.CheckRequest, inputs: Properties) -> None:
    """Make up a name where none is given: the old one, if that was made up too."""
    rule = kind.name
    if rule is None or rule.input in inputs:
        return
    prefix = inputs.get(rule.prefix)
    if prefix is not None and contains_unknown(to_plain(prefix)):
        return
    old, new_prefix = to_plain(request.old_inputs), to_plain(prefix) if prefix else None
    if rule.input in old.get(_DEFAULTED, []) and old.get(rule.prefix) == new_prefix:
        name = old[rule.input]
    else:
        start = new_prefix or f"{rule.shape(request.name)}-"
        suffix = hashlib.sha256(request.random_seed + request.urn.encode()).hexdigest()
        name = start[: rule.longest - _SUFFIX_DIGITS] + suffix[:_SUFFIX_DIGITS]
    inputs[rule.input] = PropertyValue(name)
    inputs[_DEFAULTED] = PropertyValue([PropertyValue(rule.input)])


def _problems(kind: ResourceType, inputs: Values) -> list[sdk.CheckFailure]:
    given = {k for k in inputs if not k.startswith("__")}
    failures = [
        sdk.CheckFailure(
            name,
            f"the stand-in for the aws provider does not know {name} here; it knows "
            f"{', '.join(sorted(kind.inputs))}. PROVIDERS=real uses the real plugin",
        )
        for name in sorted(given - kind.inputs)
    ]
    failures += [
        sdk.CheckFailure(name, f"{name} is required")
        for name in kind.required
        if name not in inputs
    ]
    for name, (low, high) in kind.bounds.items():
        value = inputs.get(name, low)
        if value is not UNKNOWN and not low <= value <= high:
            failures.append(
                sdk.CheckFailure(name, f"{name} is {value}; it must be from {low} to {high}")
            )
    return failures


def _same_name(kind: ResourceType, old: Values, new: Values) -> bool:
    """Whether old and new would have one name that the program chose, so cannot be at once."""
    name = kind.name.input if kind.name else ""
    made_up = name in new.get(_DEFAULTED, [])
    return bool(name) and not made_up and old.get(name) == new.get(name)


def _observed_there(kind: ResourceType, state: Values) -> Values:
    """Region and tags of the old state: the provider's configuration has a say in them too."""
    names = (("region",) if kind.regional else ()) + (("tagsAll",) if kind.tagged else ())
    return {name: state[name] for name in names if name in state}
