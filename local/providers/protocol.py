"""What every stand-in provider needs to speak the engine's protocol well.

The SDK's `pulumi.provider.experimental` supplies `Provider`, `PropertyValue` and a gRPC server.
This module adds what they leave out:

- unknowns: the engine sends a placeholder string, which the SDK takes for an ordinary one
  (`UNKNOWN`, `to_plain`, `from_plain`);
- secrets that survive the way through plain values (`from_plain(…, like=inputs)`) and stay out of
  messages (`secret_strings`, `redact`);
- the old inputs in `diff`, `update` and `delete` (`old_inputs`);
- diffs by property path (`changed_paths`, `diff_response`);
- errors as one sentence (`ProviderError`), and resources that exist but are not yet what they
  should be (`InitFailed`), which the engine keeps in the state and tries again;
- messages in the engine's own display (`EngineLog`).

A provider is a subclass of `StandIn`; its `__main__` is `serve(MyProvider(), version)`.
"""

import asyncio
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from pulumi.provider.experimental import provider as sdk
from pulumi.provider.experimental.property_value import Computed, PropertyValue
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)
from pulumi.runtime.rpc import UNKNOWN as _UNKNOWN_ON_THE_WIRE

Properties: TypeAlias = dict[str, PropertyValue]
Plain: TypeAlias = Any  # None, bool, int, float, str, list, dict or UNKNOWN
Path: TypeAlias = tuple[str | int, ...]

_SHORTEST_SECRET: Final = 4

ORPHAN_CHECK_SECONDS: Final = 2.0
"""How often a provider looks whether the engine that started it still lives."""


class Unknown:
    """The type of `UNKNOWN`: a value the engine will only know once something else exists."""

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN: Final = Unknown()


# --- values -----------------------------------------------------------------------------------


def is_unknown(value: PropertyValue) -> bool:
    """Whether `value` itself (not something inside it) is not known yet."""
    return isinstance(value.value, Computed) or value.value == _UNKNOWN_ON_THE_WIRE


def to_plain(value: PropertyValue | Mapping[str, PropertyValue]) -> Plain:
    """Turn a property value into plain Python, dropping secretness and absent (null) map entries.

    Whole numbers become `int`, unknowns become `UNKNOWN`. Assets and references stay as they are.
    """
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items() if v.value is not None}
    if is_unknown(value):
        return UNKNOWN
    inner = value.value
    if isinstance(inner, Mapping):
        return to_plain(inner)
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        return [to_plain(item) for item in inner]
    if isinstance(inner, float) and inner.is_integer():
        return int(inner)
    return inner


def from_plain(plain: Plain, like: PropertyValue | None = None) -> PropertyValue:
    """Turn plain Python into a property value, secret wherever `like` is secret at the same place.

    If `like` has a secret inside a list whose length differs from the plain one, places no longer
    correspond, and the whole list is made secret.
    """
    value = _wrap(plain, like)
    return value.with_secret(True) if like is not None and like.is_secret else value


def _wrap(plain: Plain, like: PropertyValue | None) -> PropertyValue:
    pattern = like.value if like is not None else None
    if plain is UNKNOWN:
        return PropertyValue(_UNKNOWN_ON_THE_WIRE)
    if isinstance(plain, Mapping):
        at = pattern if isinstance(pattern, Mapping) else {}
        return PropertyValue({str(k): from_plain(v, at.get(k)) for k, v in plain.items()})
    if isinstance(plain, (list, tuple)):
        return _wrap_list(plain, like)
    if isinstance(plain, int) and not isinstance(plain, bool):
        return PropertyValue(float(plain))
    return PropertyValue(plain)


def _wrap_list(plain: Sequence[Plain], like: PropertyValue | None) -> PropertyValue:
    pattern = like.value if like is not None else None
    if not isinstance(pattern, Sequence) or isinstance(pattern, str):
        return PropertyValue([from_plain(item) for item in plain])
    if len(pattern) == len(plain):
        return PropertyValue([from_plain(p, at) for p, at in zip(plain, pattern, strict=True)])
    secret = any(item.contains_secret() for item in pattern)
    return PropertyValue([from_plain(item) for item in plain], is_secret=secret)


def from_plain_map(
    plain: Mapping[str, Plain], like: Mapping[str, PropertyValue] | None = None
) -> Properties:
    """`from_plain` for the property map of a whole resource."""
    return {k: from_plain(v, (like or {}).get(k)) for k, v in plain.items()}


def contains_unknown(plain: Plain) -> bool:
    """Whether a plain value is or holds `UNKNOWN` at any depth."""
    if isinstance(plain, dict):
        return any(contains_unknown(v) for v in plain.values())
    if isinstance(plain, list):
        return any(contains_unknown(v) for v in plain)
    return plain is UNKNOWN


def secret_strings(value: PropertyValue | Mapping[str, PropertyValue]) -> set[str]:
    """All strings that are secret in `value`, for `redact`.

    The shortest are left out: they would blot out ordinary words.
    """
    if isinstance(value, Mapping):
        return set().union(*(secret_strings(v) for v in value.values()))
    if value.is_secret:
        return {s for s in _strings(to_plain(value)) if len(s) >= _SHORTEST_SECRET}
    inner = value.value
    if isinstance(inner, Mapping):
        return secret_strings(inner)
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        return set().union(*(secret_strings(v) for v in inner))
    return set()


def _strings(plain: Plain) -> Iterable[str]:
    if isinstance(plain, dict):
        for v in plain.values():
            yield from _strings(v)
    elif isinstance(plain, list):
        for v in plain:
            yield from _strings(v)
    elif isinstance(plain, str):
        yield plain


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with each of `secrets` replaced by `[secret]`, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[secret]")
    return text


# --- diffs ------------------------------------------------------------------------------------

ADD: Final = sdk.PropertyDiffKind.ADD
DELETE: Final = sdk.PropertyDiffKind.DELETE
UPDATE: Final = sdk.PropertyDiffKind.UPDATE
_REPLACING: Final = {
    ADD: sdk.PropertyDiffKind.ADD_REPLACE,
    DELETE: sdk.PropertyDiffKind.DELETE_REPLACE,
    UPDATE: sdk.PropertyDiffKind.UPDATE_REPLACE,
}


def changed_paths(old: Plain, new: Plain, at: Path = ()) -> dict[Path, sdk.PropertyDiffKind]:
    """The deepest paths at which two plain values differ. An unknown differs from everything."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs: Iterable[tuple[str | int, Plain, Plain]] = (
            (k, old.get(k), new.get(k)) for k in sorted({*old, *new})
        )
    elif isinstance(old, list) and isinstance(new, list):
        pairs = (
            (i, old[i] if i < len(old) else None, new[i] if i < len(new) else None)
            for i in range(max(len(old), len(new)))
        )
    else:
        return _leaf_change(old, new, at)
    return {p: kind for k, a, b in pairs for p, kind in changed_paths(a, b, (*at, k)).items()}


def _leaf_change(old: Plain, new: Plain, at: Path) -> dict[Path, sdk.PropertyDiffKind]:
    if new is not UNKNOWN and type(old) is type(new) and old == new:
        return {}
    if isinstance(old, (int, float)) and isinstance(new, (int, float)) and old == new:
        return {} if isinstance(old, bool) == isinstance(new, bool) else {at: UPDATE}
    if old is None:
        return {at: ADD}
    return {at: DELETE if new is None else UPDATE}


def value_at(plain: Plain, path: Path) -> Plain:
    """The value at a path, None where there is none."""
    for step in path:
        if isinstance(plain, dict):
            plain = plain.get(step)
        elif isinstance(plain, list) and isinstance(step, int) and step < len(plain):
            plain = plain[step]
        else:
            return None
    return plain


def render_path(path: Path) -> str:
    """A path in the engine's notation, e.g. `spec.ports[0]` or `data["a.b"]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step and not any(c in step for c in '.[]"'):
            text += f".{step}" if text else step
        else:
            text += '["' + step.replace('"', '\\"') + '"]'
    return text


def diff_response(
    old: Plain,
    new: Plain,
    *,
    replaces: Callable[[Path], bool] = lambda _: False,
    delete_before_replace: bool = False,
    same: Callable[[Path, Plain, Plain], bool] = lambda *_: False,
) -> sdk.DiffResponse:
    """The answer to `diff` for two plain property maps.

    `replaces` says of a changed path whether the resource must be replaced for it;
    `delete_before_replace` counts only if one of them does. `same` says of two values that differ
    at a path that they mean the same.
    """
    changes = {
        path: kind
        for path, kind in changed_paths(old, new).items()
        if not same(path, value_at(old, path), value_at(new, path))
    }
    forcing = [path for path in changes if replaces(path)]
    return sdk.DiffResponse(
        changes=bool(changes),
        replaces=[render_path(path) for path in forcing],
        delete_before_replace=delete_before_replace and bool(forcing),
        diffs=sorted({str(path[0]) for path in changes if path}),
        detailed_diff={
            render_path(path): sdk.PropertyDiff(
                _REPLACING[kind] if path in forcing else kind, input_diff=True
            )
            for path, kind in changes.items()
        },
    )


# --- requests and errors ----------------------------------------------------------------------


_old_inputs: ContextVar[Properties] = ContextVar("old_inputs")


def old_inputs() -> Properties:
    """The resource's inputs at its last update; only while `diff`, `update` or `delete` runs.

    The SDK's requests carry the last outputs alone.
    """
    return _old_inputs.get()


class ProviderError(Exception):
    """Something the user can act on; the resource is as it was before the call.

    The text is all that they see: a clear sentence or a few lines, without secrets.
    """


@dataclass
class InitFailed(Exception):  # noqa: N818 - a state more than an error
    """The resource exists but is not yet what it should be.

    The engine saves it with `properties` (outputs) and these `reasons`, reports failure, and calls
    `update` at the next `up` even if nothing changed. `inputs` is given by `read` only.
    """

    resource_id: str
    properties: Properties
    reasons: list[str]
    inputs: Properties | None = None

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def _init_failed_status(error: InitFailed) -> status_pb2.Status:
    detail = provider_pb2.ErrorResourceInitFailed(
        id=error.resource_id,
        properties=PropertyValue.marshal_map(error.properties),
        reasons=error.reasons,
    )
    if error.inputs is not None:
        detail.inputs.CopyFrom(PropertyValue.marshal_map(error.inputs))
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    status.details.add().Pack(detail)
    return status


# --- the engine's log -------------------------------------------------------------------------


class EngineLog:
    """Writes to the engine's display. Failing to write is never an error: the work goes on."""

    def __init__(self, address: str) -> None:
        self._engine = engine_pb2_grpc.EngineStub(grpc.aio.insecure_channel(address))

    async def status(self, urn: str, message: str) -> None:
        """Show what is going on beside the resource; replaced by the next such message."""
        await self._log(engine_pb2.LogRequest(urn=urn, message=message, ephemeral=True))

    async def warning(self, urn: str, message: str) -> None:
        """Show a lasting warning beside the resource."""
        await self._log(
            engine_pb2.LogRequest(urn=urn, message=message, severity=engine_pb2.WARNING)
        )

    async def debug(self, message: str) -> None:
        """Write a line that only shows with `--debug`."""
        await self._log(engine_pb2.LogRequest(message=message, severity=engine_pb2.DEBUG))

    async def _log(self, request: engine_pb2.LogRequest) -> None:
        try:
            await self._engine.Log(request, timeout=5)
        except grpc.RpcError:
            return


# --- the server -------------------------------------------------------------------------------


class StandIn(sdk.Provider):
    """A provider that `serve` runs: the SDK's, with the engine's display at hand as `log`."""

    log: EngineLog


class _Servicer(ProviderServicer):
    """The SDK's servicer, with what it leaves to chance."""

    async def Handshake(  # noqa: N802 - the protocol's name
        self,
        request: provider_pb2.ProviderHandshakeRequest,  # noqa: ARG002
        context: object,  # noqa: ARG002
    ) -> provider_pb2.ProviderHandshakeResponse:
        """Tell the engine what this provider understands; the SDK raises instead."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    async def DiffConfig(  # noqa: N802 - the protocol's name
        self,
        request: provider_pb2.DiffRequest,
        context: object,  # noqa: ARG002
    ) -> provider_pb2.DiffResponse:
        """Whether the provider's own configuration changed; the SDK answers no where it did."""
        answers = provider_pb2.DiffResponse
        same = request.old_inputs == request.news
        return answers(changes=answers.DIFF_NONE if same else answers.DIFF_SOME)


class _Calls(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Around every call: keeps the old inputs at hand and makes errors readable."""

    def __init__(self, log: EngineLog) -> None:
        self._log = log

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def answer(request: object, context: grpc.aio.ServicerContext) -> object:
            if isinstance(
                request,
                provider_pb2.DiffRequest | provider_pb2.UpdateRequest | provider_pb2.DeleteRequest,
            ):
                _old_inputs.set(PropertyValue.unmarshal_map(request.old_inputs))
            try:
                return await handler.unary_unary(request, context)
            except Exception as error:  # whatever it is, the engine must hear it
                await self._abort(error, context)
                raise  # not reached: `_abort` ends the call

        return grpc.unary_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )

    async def _abort(self, error: Exception, context: grpc.aio.ServicerContext) -> None:
        match error:
            case InitFailed():
                status = _init_failed_status(error)
                details = (("grpc-status-details-bin", status.SerializeToString()),)
                await context.abort(grpc.StatusCode.UNKNOWN, status.message, details)
            case ProviderError():
                # Not `UNKNOWN`: the engine would doubt whether the resource exists.
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            case NotImplementedError():
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, str(error))
            case _:
                await self._log.debug("".join(traceback.format_exception(error)))
                text = (
                    f"the provider failed unexpectedly ({type(error).__name__}: {error}); "
                    "run with --debug for its origin"
                )
                await context.abort(grpc.StatusCode.INTERNAL, text)


def serve(provider: StandIn, version: str) -> None:
    """Serve `provider` to the engine whose address is the first argument; returns when it ends."""
    asyncio.run(_serve(provider, version, engine_address=sys.argv[1]))


async def _serve(provider: StandIn, version: str, engine_address: str) -> None:
    engine = os.getppid()  # before it learns the port, from when on it may die at any moment
    provider.log = EngineLog(engine_address)
    server = grpc.aio.server(interceptors=[_Calls(provider.log)], options=_GRPC_CHANNEL_OPTIONS)
    servicer = _Servicer([], version, provider, engine_address)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)  # noqa: T201 - how the engine learns the port
    await _until_over(engine)
    await server.stop(grace=None)


async def _until_over(engine: int) -> None:
    """Return once the engine interrupts this process, or is itself gone.

    An engine killed outright would otherwise leave its providers behind.
    """
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    while os.getppid() == engine and not interrupted.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(interrupted.wait(), ORPHAN_CHECK_SECONDS)
