"""Send an object to the server: try it in a preview, apply it for real, say clearly what failed."""

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from local.providers.kubernetes import objects
from local.providers.kubernetes.api import Api, ApiError, Kind
from local.providers.kubernetes.awaiting import Cancelled, Note, Watches
from local.providers.protocol import ProviderError, redact

Object: TypeAlias = dict[str, Any]

PATCH_FORCE: Final = "pulumi.com/patchForce"
KIND_SECONDS: Final = 30.0
"""How long a kind that the server does not know, or a missing namespace, is waited for: both may
just be on their way, from another part of the program."""
WEBHOOK_SECONDS: Final = 30.0
"""How long a silent admission webhook is waited for: its operator may be starting."""
PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Request:
    """What is to be applied, by whom, and what must not be shown of it."""

    inputs: Object
    manager: str
    force: bool
    secrets: frozenset[str]

    @property
    def name(self) -> str:
        """The object in words, for messages."""
        return f"{self.inputs['kind']} {objects.object_id(self.inputs)}"

    def body(self, kind: Kind) -> Object:
        """The object as sent, without a namespace where its kind has none."""
        sent = objects.body(self.inputs)
        if not kind.namespaced:
            kept = {k: v for k, v in sent["metadata"].items() if k != "namespace"}
            return {**sent, "metadata": kept}
        return sent

    def refused(self, error: ApiError, doing: str) -> ProviderError:
        """The server's refusal as one message: what, why, and what helps where we know."""
        text = f"{doing} {self.name} failed: {redact(error.message, self.secrets)}"
        if any(cause.get("reason") == "FieldManagerConflict" for cause in error.causes):
            text += (
                "\nSomeone else set these fields. To take them over, annotate with "
                f'`{PATCH_FORCE}: "true"` or set PULUMI_K8S_ENABLE_PATCH_FORCE=true; to leave '
                "them, use `ignore_changes`."
            )
        return ProviderError(text)


# --- previews ---------------------------------------------------------------------------------


async def try_create(api: Api, kind: Kind, request: Request) -> Object | None:
    """What creating would give, or None where only the real run can tell.

    Raises:
        ProviderError: the server would refuse it.
    """
    body = request.body(kind)
    try:
        return await api.try_create(kind, body)
    except ApiError as error:
        if error.code == HTTPStatus.CONFLICT:
            # Its own predecessor, which the real run deletes first, or one to be found by `create`.
            await _try_elsewhere(
                api, kind, request, {"name": f"{body['metadata']['name']}-preview"}
            )
        elif _no_namespace(error):
            await _try_elsewhere(api, kind, request, {"namespace": "default"})
        elif not _is_terminating(error) and error.code != HTTPStatus.NOT_FOUND:
            raise request.refused(error, "creating") from None
    return None


async def _try_elsewhere(api: Api, kind: Kind, request: Request, change: Object) -> None:
    """Let the server judge the object where it can: a misspelled field is wrong anywhere."""
    body = request.body(kind)
    body = {**body, "metadata": {**body["metadata"], **change}}
    try:
        await api.try_create(kind, body)
    except ApiError as error:
        if error.code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
            raise request.refused(error, "creating") from None


async def try_update(api: Api, kind: Kind, request: Request) -> Object:
    """What updating would give.

    Raises:
        ProviderError: the server would refuse it.
    """
    body = request.body(kind)
    try:
        return await api.apply(
            kind, body, manager=request.manager, force=request.force, dry_run=True
        )
    except ApiError as error:
        raise request.refused(error, "updating") from None


# --- the real thing ---------------------------------------------------------------------------


async def find_kind(api: Api, watches: Watches, request: Request) -> Kind:
    """The kind as served, waiting a while for one that is just being defined.

    Raises:
        ProviderError: the server still does not know it.
    """
    wanted = request.inputs["apiVersion"], request.inputs["kind"]
    deadline = time.monotonic() + KIND_SECONDS
    while (kind := await api.find(*wanted)) is None:
        if time.monotonic() > deadline:
            raise ProviderError(
                f"the server does not know the kind {wanted[1]} in {wanted[0]}: the "
                "CustomResourceDefinition is missing, or comes later in the program "
                "(use `depends_on`)"
            )
        await watches.sleep(PAUSE_SECONDS)
    return kind


async def refuse_foreign(api: Api, kind: Kind, request: Request) -> None:
    """Make sure that what is to be created is not there already, unless a run of ours was cut.

    Raises:
        ProviderError: it is someone else's.
    """
    body = request.body(kind)
    found = await api.get(kind, body["metadata"].get("namespace"), body["metadata"]["name"])
    if found is None or found["metadata"].get("deletionTimestamp"):
        return
    if request.manager not in objects.managers(found):
        owners = ", ".join(sorted(objects.managers(found))) or "unknown"
        raise ProviderError(
            f"{request.name} already exists and is not this resource's (its fields are managed by: "
            f"{owners}). Import it (`pulumi import`, or the `import_` option), choose another "
            "name, or set PULUMI_K8S_UPSERT_EXISTING_OBJECTS=true to take over what exists."
        )


async def apply(
    api: Api, watches: Watches, kind: Kind, request: Request, *, seconds: float, note: Note
) -> Object:
    """Apply, waiting out what passes by itself, at most `seconds` in all.

    Raises:
        ProviderError: the server refuses it, or what was in the way stays.
    """
    body = request.body(kind)
    started = time.monotonic()
    while True:
        try:
            found = await api.apply(kind, body, manager=request.manager, force=request.force)
        except ApiError as error:
            patience = min(_patience(error, seconds), seconds)
            if time.monotonic() - started > patience:
                raise request.refused(error, "applying") from None
            await note(redact(error.message, request.secrets))
        else:
            if not found["metadata"].get("deletionTimestamp"):
                return found
            if time.monotonic() - started > seconds:
                raise ProviderError(f"{request.name} is still being deleted after {seconds:g} s")
            await note("waiting for its predecessor's end")
        try:
            await watches.sleep(PAUSE_SECONDS)
        except Cancelled:
            raise ProviderError(f"stopped by the user before {request.name} was applied") from None


def _patience(error: ApiError, seconds: float) -> float:
    """How long to go on trying after this refusal."""
    if _is_terminating(error):
        return seconds
    if error.code == HTTPStatus.NOT_FOUND:
        return KIND_SECONDS
    if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR and "calling webhook" in error.message:
        return WEBHOOK_SECONDS
    return 0.0


def _is_terminating(error: ApiError) -> bool:
    """Whether the namespace is being deleted."""
    return any(cause.get("reason") == "NamespaceTerminating" for cause in error.causes)


def _no_namespace(error: ApiError) -> bool:
    return error.code == HTTPStatus.NOT_FOUND and error.details.get("kind") == "namespaces"
