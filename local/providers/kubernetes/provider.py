"""Answer the engine: check, diff, create, read, update, delete, for any object of the API."""

import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pulumi.provider.experimental import provider as sdk
from pulumi.provider.experimental.property_value import PropertyValue

from local.providers.kubernetes import applying, kubeconfig, objects, reasons
from local.providers.kubernetes.api import Api, ApiError, Kind
from local.providers.kubernetes.awaiting import (
    Cancelled,
    Note,
    NotReady,
    Wait,
    Watches,
    following,
    until_gone,
)
from local.providers.kubernetes.diff import Mutability, diff
from local.providers.kubernetes.readiness import SKIP_AWAIT, WAIT_FOR, is_awaited, parse_wait_for
from local.providers.protocol import (
    UNKNOWN,
    InitFailed,
    Properties,
    ProviderError,
    StandIn,
    contains_unknown,
    old_inputs,
    redact,
    to_plain,
)

Object: TypeAlias = dict[str, Any]

VERSION: Final = "4.34.2"
"""The plugin stood in for; the SDK of the same version asks for exactly it."""
DEFAULT_SECONDS: Final = 600.0
"""How long an operation may take unless told otherwise, as in the real plugin."""
_TIMEOUT: Final = "pulumi.com/timeoutSeconds"
_PROPAGATION: Final = "pulumi.com/deletionPropagationPolicy"
_SKIPS_DELETE_AWAIT: Final = ("Namespace", "Pod", "DaemonSet", "Deployment", "StatefulSet", "Job")
_READ_AWAITED: Final = ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod", "Service")


@dataclass(frozen=True)
class Settings:
    """The provider's configuration, as far as this stand-in knows it."""

    kubeconfig: str | None = None
    context: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    patch_force: bool = False
    upsert: bool = False
    mutability: Mutability = field(default_factory=Mutability)

    @staticmethod
    def of(config: Mapping[str, Any]) -> "Settings":
        """Read the provider's inputs; environment variables are the real plugin's.

        Raises:
            ProviderError: something is asked for that only the real plugin can do.
        """
        if str(config.get("enableServerSideApply", "true")).lower() == "false":
            raise ProviderError(
                "this stand-in always uses server-side apply: remove `enableServerSideApply: false`"
            )
        if config.get("renderYamlToDirectory"):
            raise ProviderError("this stand-in cannot render YAML: remove `renderYamlToDirectory`")

        def switch(key: str, variable: str) -> bool:
            return str(config.get(key, os.environ.get(variable, ""))).lower() in ("true", "1")

        return Settings(
            kubeconfig=config.get("kubeconfig"),
            context=config.get("context"),
            cluster=config.get("cluster"),
            namespace=config.get("namespace"),
            patch_force=switch("enablePatchForce", "PULUMI_K8S_ENABLE_PATCH_FORCE"),
            upsert=switch("upsertExistingObjects", "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"),
            mutability=Mutability(
                switch("enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"),
                switch("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
            ),
        )

    async def connect(self) -> Api:
        """A client for the cluster, which has answered once.

        Raises:
            ProviderError: there is no usable kubeconfig, or the cluster does not answer.
        """
        api = Api(kubeconfig.load(self.kubeconfig, self.context, self.cluster, self.namespace))
        try:
            await api.version()
        except ApiError as error:
            raise ProviderError(
                f"the Kubernetes API server {api.connection} refuses us: {error.message}"
            ) from None
        return api


class KubernetesProvider(StandIn):
    """The provider; one instance a process, one process an engine run."""

    _api: Api
    _watches: Watches
    _settings: Settings

    # --- the provider itself ---

    async def get_schema(self, request: sdk.GetSchemaRequest) -> sdk.GetSchemaResponse:  # noqa: ARG002
        """A schema without types: the programs' SDK already has them."""
        return sdk.GetSchemaResponse(f'{{"name": "kubernetes", "version": "{VERSION}"}}')

    async def check_config(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Say at once, and only once, that a cluster does not answer."""
        config = to_plain(request.new_inputs)
        if not contains_unknown(config):
            await Settings.of(config).connect()
        return sdk.CheckResponse(inputs=request.new_inputs)

    async def configure(self, request: sdk.ConfigureRequest) -> sdk.ConfigureResponse:
        """Connect to the cluster."""
        self._settings = Settings.of(to_plain(request.args))
        self._api = await self._settings.connect()
        self._watches = Watches(self._api)
        return sdk.ConfigureResponse(
            accept_secrets=True, supports_preview=True, accept_outputs=False, accept_resources=False
        )

    async def invoke(self, request: sdk.InvokeRequest) -> sdk.InvokeResponse:
        """No function is supported."""
        raise ProviderError(
            f"the function {request.tok} is not supported by this stand-in; install the real plugin"
            " (`pulumi plugin install resource kubernetes`)"
        )

    async def cancel(self) -> None:
        """End every wait; what was applied stays, and is recorded as not ready."""
        if hasattr(self, "_watches"):
            self._watches.cancel()

    # --- inputs ---

    async def check(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Complete the inputs: apiVersion, kind, name, namespace."""
        api_version, kind = objects.served_as(request.type)
        inputs = objects.normalised(to_plain(request.new_inputs))
        inputs = {"apiVersion": api_version, "kind": kind, **inputs}
        if kind == f"{inputs['kind']}Patch":
            raise ProviderError(
                f"{request.type} is not supported by this stand-in: patch resources need the real "
                "plugin (`pulumi plugin install resource kubernetes`)"
            )
        if inputs.get("metadata") is not UNKNOWN:
            old_metadata = to_plain(request.old_inputs).get("metadata")
            metadata = dict(inputs.get("metadata") or {})
            _name(metadata, old_metadata or {}, request)
            if not metadata.get("namespace") and await self._is_namespaced(inputs):
                metadata["namespace"] = self._api.connection.namespace
            inputs["metadata"] = metadata
        if expression := objects.annotation(inputs, WAIT_FOR):
            parse_wait_for(expression)
        return sdk.CheckResponse(inputs=objects.secret_inputs(inputs, like=request.new_inputs))

    async def diff(self, request: sdk.DiffRequest) -> sdk.DiffResponse:
        """Compare the inputs of the last update, or refresh, with the new ones."""
        old, new = to_plain(old_inputs()), to_plain(request.new_inputs)
        if not await self._is_namespaced(new):
            old, new = _without_namespace(old), _without_namespace(new)
        return diff(old, new, self._settings.mutability)

    async def _is_namespaced(self, inputs: Object) -> bool:
        """Whether the kind has namespaces; one not defined yet most likely does."""
        kind = await self._api.find(inputs["apiVersion"], inputs["kind"])
        return kind is None or kind.namespaced

    # --- changes ---

    async def create(self, request: sdk.CreateRequest) -> sdk.CreateResponse:
        """Apply an object that is not there yet, and wait until it is ready."""
        inputs = to_plain(request.properties)
        if request.preview and contains_unknown(inputs):
            return sdk.CreateResponse(properties=request.properties)
        manager = _manager(inputs, objects.field_manager(request.urn))
        call = self._request(inputs, request.properties, manager)
        if request.preview:
            kind = await self._api.find(inputs["apiVersion"], inputs["kind"])
            found = await applying.try_create(self._api, kind, call) if kind else None
            return sdk.CreateResponse(
                properties=_previewed(found, request.properties) if found else request.properties
            )
        kind = await self._find_kind(call)
        if not self._settings.upsert:
            await applying.refuse_foreign(self._api, kind, call)
        live = await self._apply(request.urn, kind, call, request.properties, request.timeout)
        return sdk.CreateResponse(
            resource_id=objects.object_id(live),
            properties=objects.outputs(live, request.properties, manager),
        )

    async def update(self, request: sdk.UpdateRequest) -> sdk.UpdateResponse:
        """Apply the new inputs, and wait until the object is ready again."""
        inputs = to_plain(request.news)
        if request.preview and contains_unknown(inputs):
            return sdk.UpdateResponse(properties=request.news)
        recorded = to_plain(request.olds).get("__fieldManager")
        manager = _manager(inputs, recorded or objects.field_manager(request.urn))
        call = self._request(inputs, request.news, manager)
        kind = await self._find_kind(call)
        if request.ignore_changes:
            call = self._request(
                await self._with_live(kind, inputs, request.ignore_changes), request.news, manager
            )
        if request.preview:
            found = await applying.try_update(self._api, kind, call)
            return sdk.UpdateResponse(properties=_previewed(found, request.news))
        live = await self._apply(request.urn, kind, call, request.news, request.timeout)
        return sdk.UpdateResponse(properties=objects.outputs(live, request.news, manager))

    def _request(
        self, inputs: Object, properties: Mapping[str, PropertyValue], manager: str
    ) -> applying.Request:
        forced = objects.annotation(inputs, applying.PATCH_FORCE) == "true"
        return applying.Request(
            inputs=inputs,
            manager=manager,
            force=forced or self._settings.patch_force,
            secrets=frozenset(objects.secrets_of(properties)),
        )

    async def _find_kind(self, call: applying.Request) -> Kind:
        try:
            return await applying.find_kind(self._api, self._watches, call)
        except Cancelled:
            raise ProviderError(f"stopped by the user before {call.name} was applied") from None

    async def _with_live(self, kind: Kind, inputs: Object, paths: list[str]) -> Object:
        """Inputs with the live values at ignored paths, so that whoever set them keeps them."""
        metadata = inputs["metadata"]
        live = await self._api.get(kind, metadata.get("namespace"), metadata["name"])
        return objects.taken_over(inputs, live, paths) if live else inputs

    async def _apply(
        self,
        urn: str,
        kind: Kind,
        call: applying.Request,
        properties: Properties,
        timeout: float,
    ) -> Object:
        """Apply and wait.

        Raises:
            InitFailed: it is applied but not ready.
        """
        seconds = _seconds(timeout, call.inputs)
        note = self._note(urn)
        metadata = call.body(kind)["metadata"]
        if not is_awaited(call.inputs):
            return await applying.apply(
                self._api, self._watches, kind, call, seconds=seconds, note=note
            )
        namespace, name = metadata.get("namespace"), metadata["name"]
        async with following(self._watches, kind, namespace, name) as events:
            live = await applying.apply(
                self._api, self._watches, kind, call, seconds=seconds, note=note
            )
            try:
                return await Wait(self._api, kind, live, note).until_ready(events, seconds)
            except NotReady as end:
                raise await self._init_failed(end, call, properties) from None
            finally:
                await note("")

    async def _init_failed(
        self, end: NotReady, call: applying.Request, properties: Properties
    ) -> InitFailed:
        why = [] if end.by_user else await reasons.not_ready(self._api, end.obj)
        texts = [f"{call.name} was applied but is not ready: {end.reason}", *why]
        return InitFailed(
            objects.object_id(end.obj),
            objects.outputs(end.obj, properties, call.manager),
            [redact(text, call.secrets) for text in texts],
        )

    def _note(self, urn: str) -> Note:
        async def note(text: str) -> None:
            await self.log.status(urn, text)

        return note

    # --- reading and deleting ---

    async def read(self, request: sdk.ReadRequest) -> sdk.ReadResponse:
        """The object as it is now; an empty id where it is gone.

        Inputs are what the live object has where the program declared something, or, for an
        object that it imports, what anybody declared.
        """
        api_version, kind_name = objects.served_as(request.type)
        recorded = to_plain(request.inputs) or to_plain(request.properties)
        api_version = recorded.get("apiVersion", api_version)
        kind = await self._api.find(api_version, recorded.get("kind", kind_name))
        namespace, name = objects.parse_id(request.resource_id)
        if kind and kind.namespaced and namespace is None:
            namespace = self._api.connection.namespace
        live = await self._api.get(kind, namespace, name) if kind else None
        if kind is None or live is None:
            return sdk.ReadResponse(resource_id="")
        manager = to_plain(request.properties).get("__fieldManager")
        manager = manager or objects.field_manager(request.urn)
        known = to_plain(request.inputs)
        inputs = objects.declared(live, known) if known else objects.imported(live)
        answer = sdk.ReadResponse(
            resource_id=request.resource_id,
            properties=objects.outputs(live, request.inputs, manager),
            inputs=objects.secret_inputs(inputs, like=request.inputs),
        )
        if known and kind.kind in _READ_AWAITED:
            await self._check_still_ready(kind, live, answer)
        return answer

    async def _check_still_ready(self, kind: Kind, live: Object, answer: sdk.ReadResponse) -> None:
        """Have an object that stopped being ready updated at the next `up`, and say why."""
        try:
            await Wait(self._api, kind, live, self._note("")).is_ready_now()
        except NotReady as end:
            why = await reasons.not_ready(self._api, end.obj)
            raise InitFailed(
                str(answer.resource_id), answer.properties, [end.reason, *why], answer.inputs
            ) from None

    async def delete(self, request: sdk.DeleteRequest) -> None:
        """Delete, and wait until the object is really gone."""
        live = to_plain(request.properties)
        declared = to_plain(old_inputs())
        kind = await self._api.find(live["apiVersion"], live["kind"])
        if kind is None:
            return  # its definition is gone, and all of its objects with it
        namespace, name = objects.parse_id(request.resource_id)
        policy = (objects.annotation(declared, _PROPAGATION) or "foreground").capitalize()
        try:
            if not await self._api.delete(kind, namespace, name, policy):
                return
            skips = objects.annotation(declared, SKIP_AWAIT) == "true"
            if skips and kind.kind in _SKIPS_DELETE_AWAIT:
                return
            await self._await_end(request, kind, live)
        except ApiError as error:
            raise ProviderError(
                f"deleting {kind.kind} {request.resource_id} failed: {error}"
            ) from None

    async def _await_end(self, request: sdk.DeleteRequest, kind: Kind, live: Object) -> None:
        seconds = _seconds(request.timeout, to_plain(old_inputs()))
        try:
            await until_gone(
                self._api, self._watches, kind, live, seconds=seconds, note=self._note(request.urn)
            )
        except NotReady as end:
            texts = [f"{kind.kind} {request.resource_id} is not gone: {end.reason}"]
            raise ProviderError("\n".join(texts + reasons.not_gone(end.obj))) from None


def _name(metadata: Object, old: Object, request: sdk.CheckRequest) -> None:
    """Give a nameless object its old generated name, or `<resource name>-<8 hex digits>`."""
    if metadata.get("name"):
        return
    if metadata.get("generateName"):
        raise ProviderError("`metadata.generateName` is not supported with server-side apply")
    if metadata.get("annotations") is UNKNOWN:
        raise ProviderError("an object whose annotations are not known yet needs a `metadata.name`")
    annotations = old.get("annotations") or {}
    if old.get("name") and annotations.get(objects.AUTONAMED) == "true":
        metadata["name"] = old["name"]
    else:
        seed = request.random_seed or secrets.token_bytes(32)
        metadata["name"] = f"{request.name}-{hashlib.sha256(seed).hexdigest()[:8]}"
    metadata["annotations"] = {**(metadata.get("annotations") or {}), objects.AUTONAMED: "true"}


def _manager(inputs: Object, otherwise: str) -> str:
    return objects.annotation(inputs, "pulumi.com/patchFieldManager") or otherwise


def _seconds(timeout: float, inputs: Object) -> float:
    """The operation's limit: from `custom_timeouts`, the annotation, or the default."""
    if timeout:
        return timeout
    text = objects.annotation(inputs, _TIMEOUT) or ""
    return float(text) if text.isdigit() else DEFAULT_SECONDS


def _without_namespace(inputs: Object) -> Object:
    metadata = inputs.get("metadata")
    if not isinstance(metadata, dict):
        return inputs
    return {**inputs, "metadata": {k: v for k, v in metadata.items() if k != "namespace"}}


def _previewed(found: Object, properties: Properties) -> Properties:
    """A dry run's result as outputs: what the real run will only then decide is left out."""
    shown = objects.normalised(found)
    return objects.outputs(shown, properties, manager="")
