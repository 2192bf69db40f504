"""Talk to a Kubernetes API server: find kinds, get, apply, create, delete, list, watch."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

from local.providers.kubernetes.kubeconfig import Connection
from local.providers.protocol import ProviderError

if TYPE_CHECKING:
    import httpx

Object: TypeAlias = dict[str, Any]

REQUEST_SECONDS: Final = 30.0
"""One request may take this long; admission webhooks alone may take 10 s each."""
CONNECT_SECONDS: Final = 5.0
BUSY_RETRIES: Final = 5
"""How often a request is repeated that the server was too busy for (429, 503) or that was cut."""
MOST_CONNECTIONS: Final = 8
"""For requests; each costs a TLS handshake. Watches have connections of their own."""


@dataclass(frozen=True)
class Kind:
    """A kind as the server serves it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """The path of one object, or of the collection in a namespace (or everywhere)."""
        root = (
            f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        )
        within = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{within}/{self.plural}" + (f"/{name}" if name else "")


@dataclass
class ApiError(ProviderError):
    """The server refused a request."""

    code: int
    reason: str
    message: str
    details: Mapping[str, Any]

    def __str__(self) -> str:
        return self.message

    @property
    def causes(self) -> list[Mapping[str, Any]]:
        """What is wrong field by field, where the server says so."""
        return list(self.details.get("causes") or [])


class Unreachable(ProviderError):  # noqa: N818 - a state more than an error
    """No answer from the server."""


class Api:
    """One API server. All methods raise `ApiError`, or `Unreachable` where nothing answers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._kinds: dict[tuple[str, str], Kind] = {}
        self._discovery = asyncio.Lock()
        self._http = _client(connection, MOST_CONNECTIONS)
        self._streams = _client(connection, None)

    async def version(self) -> str:
        """The server's version, such as `v1.36.3`. The cheapest proof that it answers."""
        return str((await self._request("GET", "/version"))["gitVersion"])

    async def find(self, api_version: str, kind: str) -> Kind | None:
        """The kind as served, or None where the server does not know it (yet)."""
        key = (api_version, kind)
        if key not in self._kinds:
            async with self._discovery:
                if key not in self._kinds:
                    await self._discover(api_version)
        return self._kinds.get(key)

    async def _discover(self, api_version: str) -> None:
        root = "/apis/" if "/" in api_version else "/api/"
        try:
            served = await self._request("GET", root + api_version)
        except ApiError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return
            raise
        for entry in served["resources"]:
            if "/" not in entry["name"]:
                found = Kind(api_version, entry["kind"], entry["name"], entry["namespaced"])
                self._kinds[(api_version, found.kind)] = found

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self._request("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def list(self, kind: Kind, namespace: str | None, **selectors: str) -> list[Object]:
        """All objects that match `labelSelector` and `fieldSelector`."""
        answer = await self._request("GET", kind.path(namespace), params=selectors)
        return list(answer["items"])

    async def apply(
        self, kind: Kind, body: Object, *, manager: str, force: bool, dry_run: bool = False
    ) -> Object:
        """Server-side apply with strict field validation; creates what does not exist."""
        params = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        metadata = body["metadata"]
        return await self._request(
            "PATCH",
            kind.path(metadata.get("namespace"), metadata["name"]),
            params=params | ({"dryRun": "All"} if dry_run else {}),
            body=body,
            content_type="application/apply-patch+yaml",
        )

    async def try_create(self, kind: Kind, body: Object) -> Object:
        """What creating the object would give; nothing is stored."""
        return await self._request(
            "POST",
            kind.path(body["metadata"].get("namespace")),
            params={"dryRun": "All", "fieldValidation": "Strict"},
            body=body,
        )

    async def delete(self, kind: Kind, namespace: str | None, name: str, propagation: str) -> bool:
        """Ask for the object's end; whether there was one."""
        try:
            await self._request(
                "DELETE",
                kind.path(namespace, name),
                body={"propagationPolicy": propagation},
            )
        except ApiError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    async def watch(self, kind: Kind, namespace: str | None) -> AsyncIterator[tuple[str, Object]]:
        """Events `(type, object)`: first what exists (`ADDED`), then every change.

        Ends when the server closes the stream, which it does after some minutes.
        """
        import httpx  # noqa: PLC0415 - see _client

        try:
            async with self._streams.stream(
                "GET",
                kind.path(namespace),
                params={"watch": "1"},
                timeout=httpx.Timeout(REQUEST_SECONDS, read=None, pool=None),
            ) as response:
                if response.status_code != HTTPStatus.OK:
                    raise _api_error(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    event = json.loads(line)
                    yield event["type"], event["object"]
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    async def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        import httpx  # noqa: PLC0415 - see _client

        content = None if body is None else json.dumps(body).encode()
        for attempt in range(BUSY_RETRIES + 1):
            try:
                response = await self._http.request(
                    method,
                    path,
                    params=params,
                    content=content,
                    headers={"Content-Type": content_type} if content else None,
                )
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise self._unreachable(error) from None
            except httpx.TransportError as error:
                # Cut in the middle: what was asked may have been done; every request is idempotent.
                if attempt == BUSY_RETRIES:
                    raise self._unreachable(error) from None
            else:
                if response.is_success:
                    answer: Object = response.json()
                    return answer
                busy = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
                if response.status_code not in busy or attempt == BUSY_RETRIES:
                    raise _api_error(response.status_code, response.content)
            await asyncio.sleep(0.25 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"no answer from the Kubernetes API server {self.connection}: "
            f"{str(error) or type(error).__name__}. Is the cluster up, and is this the context you "
            "mean? Set KUBECONFIG or `kubernetes:context` otherwise. Nothing was changed."
        )


def _client(connection: Connection, connections: int | None) -> "httpx.AsyncClient":
    # Imported late: it takes half of the provider's start, while the engine waits for a port.
    import httpx  # noqa: PLC0415

    loopback = urlsplit(connection.server).hostname in ("127.0.0.1", "::1", "localhost")
    headers = {"User-Agent": "pulumi-resource-kubernetes"}
    if connection.token:
        headers["Authorization"] = f"Bearer {connection.token}"
    return httpx.AsyncClient(
        base_url=connection.server,
        headers=headers,
        verify=connection.tls if connection.tls is not None else True,
        trust_env=not loopback,
        timeout=httpx.Timeout(REQUEST_SECONDS, connect=CONNECT_SECONDS, pool=None),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


def _api_error(code: int, content: bytes) -> ApiError:
    try:
        status = json.loads(content)
    except ValueError:
        status = {"message": content.decode(errors="replace")[:500]}
    return ApiError(
        code,
        str(status.get("reason") or HTTPStatus(code).phrase),
        str(status.get("message") or HTTPStatus(code).phrase),
        status.get("details") or {},
    )
