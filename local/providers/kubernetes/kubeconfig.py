"""Find the cluster: from the provider's configuration or the environment to a `Connection`."""

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.providers.protocol import ProviderError


@dataclass(frozen=True)
class Connection:
    """How to reach one API server, and what to call it in messages."""

    server: str
    namespace: str
    """Where objects go that name no namespace."""
    source: str
    """The kubeconfig's path, or a word for one given as text."""
    context: str
    token: str | None
    tls: ssl.SSLContext | None
    """None where the server is plain http."""

    def __str__(self) -> str:
        return f"{self.server} (kubeconfig {self.source}, context {self.context!r})"


def load(
    kubeconfig: str | None = None,
    context: str | None = None,
    cluster: str | None = None,
    namespace: str | None = None,
) -> Connection:
    """Read a kubeconfig, given as a path or as its text; else `$KUBECONFIG`; else the usual file.

    Raises:
        ProviderError: the file, the context or what it refers to is missing or unusable.
    """
    document, source, folder = _document(kubeconfig)
    chosen = context or document.get("current-context") or ""
    entry = _named(document, "contexts", chosen, "context", source)
    target = _named(document, "clusters", cluster or entry.get("cluster", ""), "cluster", source)
    user = _named(document, "users", entry.get("user", ""), "user", source)
    if "exec" in user or "auth-provider" in user:
        raise ProviderError(
            f"the user {entry.get('user')!r} in kubeconfig {source} gets its credentials from "
            "another program; this stand-in takes a token or a client certificate only: install "
            "the real plugin (`pulumi plugin install resource kubernetes`)"
        )
    server = target.get("server", "")
    return Connection(
        server=server.rstrip("/"),
        namespace=namespace or entry.get("namespace") or "default",
        source=source,
        context=chosen,
        token=_token(user, folder),
        tls=_tls(target, user, folder, source) if server.startswith("https:") else None,
    )


def _document(kubeconfig: str | None) -> tuple[dict[str, Any], str, Path]:
    if kubeconfig and ("\n" in kubeconfig or kubeconfig.lstrip().startswith("{")):
        return _parse(kubeconfig, "from the configuration"), "from the configuration", Path()
    places = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    paths = [Path(p).expanduser() for p in places.split(os.pathsep) if p]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise ProviderError(
            f"no kubeconfig at {places}; set KUBECONFIG or `kubernetes:kubeconfig` to one that "
            "names your cluster"
        )
    merged: dict[str, Any] = {}
    for path in found:
        for key, value in _parse(path.read_text(), str(path)).items():
            if isinstance(value, list):
                merged[key] = [*merged.get(key, []), *value]
            else:
                merged[key] = merged.get(key) or value
    return merged, os.pathsep.join(map(str, found)), found[0].parent


def _parse(text: str, source: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - a provider that is only asked for its version starts faster

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict):
        raise ProviderError(f"the kubeconfig {source} is not a YAML mapping")
    return document


def _named(
    document: dict[str, Any], section: str, name: str, what: str, source: str
) -> dict[str, Any]:
    entries = {entry["name"]: entry.get(what) or {} for entry in document.get(section) or []}
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise ProviderError(f"kubeconfig {source} has no {what} {name!r}; it has: {known}")
    found: dict[str, Any] = entries[name]
    return found


def _token(user: dict[str, Any], folder: Path) -> str | None:
    if "tokenFile" in user:
        return (folder / str(user["tokenFile"])).read_text().strip()
    token = user.get("token")
    return str(token) if token else None


def _tls(
    cluster: dict[str, Any], user: dict[str, Any], folder: Path, source: str
) -> ssl.SSLContext:
    authority = _material(cluster, "certificate-authority", folder, source)
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate = _material(user, "client-certificate", folder, source)
    key = _material(user, "client-key", folder, source)
    if certificate and key:
        # The ssl module reads key pairs from files only; this one is gone at once.
        with tempfile.TemporaryDirectory() as scratch:
            pair = Path(scratch, "pair.pem")
            pair.touch(mode=0o600)
            pair.write_bytes(certificate + b"\n" + key)
            tls.load_cert_chain(pair)
    return tls


def _material(entry: dict[str, Any], key: str, folder: Path, source: str) -> bytes | None:
    if data := entry.get(f"{key}-data"):
        return base64.b64decode(str(data))
    if not (path := entry.get(key)):
        return None
    try:
        return (folder / str(path)).read_bytes()
    except OSError as error:
        raise ProviderError(
            f"cannot read the {key} {path} that kubeconfig {source} names: {error.strerror}"
        ) from None
