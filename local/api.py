"""A small client of a local cluster's API server: JSON in, JSON out, certificates verified."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from local.errors import LocalError
from local.pki import Pki

TIMEOUT_SECONDS = 30.0
SILENCE_SECONDS = 90.0
"""A watch that is silent for longer is taken for broken: bookmarks come about once a minute."""


class RefusedError(LocalError):
    """The API server's answer was an error; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Talks to one API server as the local administrator; close it after use (`with`)."""

    def __init__(self, server: str, pki: Pki) -> None:
        context = ssl.create_default_context(cafile=str(pki.authority))
        context.load_cert_chain(pki.certificate("admin"), pki.key("admin"))
        self._http = httpx.Client(
            base_url=server, verify=context, timeout=TIMEOUT_SECONDS, trust_env=False
        )
        self._watched: socket.socket | None = None

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def answers(self) -> bool:
        """Whether the server says that it is ready for requests."""
        try:
            return self._http.get("/readyz", timeout=2).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def items(self, path: str) -> list[dict[str, Any]]:
        """Every object of a collection."""
        listed: list[dict[str, Any]] = self._json("GET", path)["items"]
        return listed

    def get(self, path: str) -> dict[str, Any]:
        """One object."""
        return self._json("GET", path)

    def metadata(self, path: str) -> list[dict[str, Any]]:
        """The metadata alone of every object of a collection: cheap where the objects are large."""
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        return [item["metadata"] for item in self._json("GET", path, accept)["items"] or []]

    def watch(self, path: str, version: str) -> Iterator[dict[str, Any]]:
        """The events of a collection after a resource version, until the server ends the stream.

        Each is `{"type": "ADDED" | "MODIFIED" | "DELETED", "object": {…}}`.

        Raises:
            LocalError: when the connection breaks.
            RefusedError: when the server reports an error; 410 if it no longer knows the version.
        """
        options = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        url = httpx.URL(path).copy_merge_params(options)
        timeout = httpx.Timeout(TIMEOUT_SECONDS, read=SILENCE_SECONDS)
        try:
            with self._http.stream("GET", url, timeout=timeout) as response:
                self._watched = response.extensions["network_stream"].get_extra_info("socket")
                if response.is_error:
                    response.read()
                    _raise_for(response)
                for line in response.iter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise RefusedError(f"watching {path}: {status['message']}", status["code"])
                    if event["type"] != "BOOKMARK":
                        yield event
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise LocalError(f"watching {path} broke off: {error}") from error

    def abort(self) -> None:
        """Break off the running watch; another thread may call this."""
        if self._watched is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                self._watched.shutdown(socket.SHUT_RDWR)

    def create(self, path: str, body: Mapping[str, Any]) -> bool:
        """Create an object; False if one of that name exists already."""
        response = self._request("POST", path, body, "application/json")
        if response.status_code == httpx.codes.CONFLICT:
            return False
        _raise_for(response)
        return True

    def replace_spec(self, path: str, body: Mapping[str, Any]) -> None:
        """Put another spec in the place of an existing object's."""
        patch = [
            {"op": "replace", "path": "/spec", "value": body["spec"]},
            {"op": "replace", "path": "/metadata/annotations", "value": _annotations(body)},
        ]
        _raise_for(self._request("PATCH", path, patch, "application/json-patch+json"))

    def apply(self, path: str, body: Mapping[str, Any], manager: str) -> None:
        """Create an object or bring it to the wanted state, server-side.

        Fields that `manager` does not name stay as others have set them; those that it names are
        its own from now on. An unknown field is refused.
        """
        options = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        url = str(httpx.URL(path).copy_merge_params(options))
        _raise_for(self._request("PATCH", url, body, "application/apply-patch+yaml"))

    def merge(self, path: str, body: Mapping[str, Any]) -> None:
        """Merge fields into an existing object."""
        _raise_for(self._request("PATCH", path, body, "application/merge-patch+json"))

    def delete(self, path: str) -> None:
        """Delete an object; one that is gone already is fine."""
        response = self._request("DELETE", path, None, "application/json")
        if response.status_code != httpx.codes.NOT_FOUND:
            _raise_for(response)

    def _json(self, method: str, path: str, accept: str = "application/json") -> dict[str, Any]:
        response = self._request(method, path, None, "application/json", accept)
        _raise_for(response)
        answer: dict[str, Any] = response.json()
        return answer

    def _request(
        self,
        method: str,
        path: str,
        body: object,
        content_type: str,
        accept: str = "application/json",
    ) -> httpx.Response:
        content = None if body is None else json.dumps(body, default=str).encode()
        try:
            return self._http.request(
                method,
                path,
                content=content,
                headers={"Content-Type": content_type, "Accept": accept},
            )
        except httpx.HTTPError as error:
            raise LocalError(
                f"the local API server did not answer {method} {path}: {error}"
            ) from error


def kubeconfig(path: Path, server: str, pki: Pki, identity: str, context: str) -> None:
    """Write a kubeconfig that verifies the server and shows the identity's certificate."""
    path.touch(mode=0o600)
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": context,
                "contexts": [{"name": context, "context": {"cluster": context, "user": identity}}],
                "clusters": [
                    {
                        "name": context,
                        "cluster": {
                            "server": server,
                            "certificate-authority": str(pki.authority),
                        },
                    }
                ],
                "users": [
                    {
                        "name": identity,
                        "user": {
                            "client-certificate": str(pki.certificate(identity)),
                            "client-key": str(pki.key(identity)),
                        },
                    }
                ],
            },
            indent=2,
        )
    )


def _annotations(body: Mapping[str, Any]) -> Mapping[str, str]:
    annotations: Mapping[str, str] = body["metadata"].get("annotations", {})
    return annotations


def _raise_for(response: httpx.Response) -> None:
    if response.is_error:
        request = response.request
        message = f"{request.method} {request.url.path} was refused: {response.text[:500]}"
        raise RefusedError(message, response.status_code)
