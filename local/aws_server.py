"""The AWS endpoint's own process: moto's server, with a journal from which it comes back.

moto keeps all in memory. Here every request that changed something is appended to a journal before
it is answered, with the seed that moto drew its identifiers from; at the start the journal is run
through again. So buckets, objects, keys and their ids outlive a process that was killed. Times are
the exception: what came back is dated now, and a retention period starts anew.

Usage: python -m local.aws_server FOLDER, where `journal` is kept and `port` is written.
"""

from __future__ import annotations

import io
import json
import logging
import os
import secrets
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import moto.iam.models
import moto.kms.models
import moto.s3.models
from moto.core.base_backend import AccountSpecificBackend
from moto.core.responses import ActionResult
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.kms.utils import MASTER_KEY_LEN
from moto.moto_api._internal import mock_random
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.exceptions import ReplicationConfigurationNotFoundError
from moto.s3.responses import S3Response
from werkzeug.datastructures import Headers
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[[str, list[tuple[str, str]]], object]
Application: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
Answer: TypeAlias = tuple[Iterable[bytes], str, Headers]

log = logging.getLogger("aws")

HOST = "127.0.0.1"
READY_PATH = "/_ready"
_LENGTHS = struct.Struct(">II")
_SEED_BITS = 64
_UNENCRYPTED = {"Bool": {"aws:SecureTransport": "false"}}
_UPLOAD_ID_LENGTH = 48
_FIRST_ERROR = 400
_READING_METHODS = ("GET", "HEAD", "OPTIONS")
_READING_ACTIONS = ("Get", "List", "Describe", "Head", "Encrypt", "Decrypt", "GenerateDataKey")


class Journal:
    """Requests in the order they were answered: lengths, the request's head as JSON, its body."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._file = path.open("r+b")

    def requests(self) -> Iterator[tuple[Environ, bytes]]:
        """All requests; a last one that was cut off is forgotten: it was never answered."""
        self._file.seek(0)
        while True:
            start = self._file.tell()
            lengths = self._file.read(_LENGTHS.size)
            if len(lengths) == _LENGTHS.size:
                head_length, body_length = _LENGTHS.unpack(lengths)
                head, body = self._file.read(head_length), self._file.read(body_length)
                if len(head) == head_length and len(body) == body_length:
                    yield json.loads(head), body
                    continue
            self._file.seek(start)
            self._file.truncate()
            return

    def append(self, head: Environ, body: bytes) -> None:
        """Add a request; once this returns, killing the process cannot lose it."""
        encoded = json.dumps(head).encode()
        self._file.write(_LENGTHS.pack(len(encoded), len(body)) + encoded + body)
        self._file.flush()


class Server:
    """moto behind a journal, one request at a time: ids are drawn in the journal's order."""

    def __init__(self, application: Application, journal: Journal) -> None:
        self._application = application
        self._journal = journal
        self._lock = threading.Lock()
        for head, body in journal.requests():
            _, status, _ = self._answer({**head, "wsgi.errors": sys.stderr}, body, head["seed"])
            if int(status[:3]) >= _FIRST_ERROR:
                log.error("not as before: %s %s: %s", *_request_line(head), status)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        if environ["PATH_INFO"] == READY_PATH:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(os.getpid()).encode()]
        body = _body(environ)
        with self._lock:
            seed = secrets.randbits(_SEED_BITS)
            head = {"seed": seed, **_head(environ)}
            chunks, status, headers = self._answer(environ, body, seed)
            if _changes_something(environ, body) and int(status[:3]) < _FIRST_ERROR:
                self._journal.append(head, body)
        start_response(status, headers.to_wsgi_list())
        return chunks

    def _answer(self, environ: Environ, body: bytes, seed: int) -> Answer:
        mock_random.seed(seed)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        return run_wsgi_app(self._application, environ, buffered=True)


def _request_line(head: Environ) -> tuple[str, str]:
    action = head.get("HTTP_X_AMZ_TARGET") or head["PATH_INFO"]
    return head["REQUEST_METHOD"], action


def _body(environ: Environ) -> bytes:
    stream = environ["wsgi.input"]
    if environ.pop("HTTP_TRANSFER_ENCODING", "") == "chunked":
        return bytes(stream.read())
    return bytes(stream.read(int(environ.get("CONTENT_LENGTH") or 0)))


def _head(environ: Environ) -> Environ:
    return {key: value for key, value in environ.items() if isinstance(value, str | dict)}


def _changes_something(environ: Environ, body: bytes) -> bool:
    if environ["REQUEST_METHOD"] in _READING_METHODS:
        return False
    action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
    if not action and environ.get("CONTENT_TYPE", "").startswith(
        "application/x-www-form-urlencoded"
    ):
        action = parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
    return not action.startswith(_READING_ACTIONS)


def _listen(preferred: int) -> socket.socket:
    """Listen on the preferred port, or on any free one if somebody else has it now."""
    try:
        return socket.create_server((HOST, preferred))
    except OSError:
        return socket.create_server((HOST, 0))


def _get_bucket_replication(self: S3Response) -> object:
    """What moto keeps of a bucket's replication: its own answer leaves out half of every rule."""
    self.data["Action"] = "GetBucketReplication"
    found = self.backend.get_bucket_replication(self.bucket_name)
    if not found:
        raise ReplicationConfigurationNotFoundError(bucket_name=self.bucket_name)
    configuration = {"Role": found["Role"], "Rules": found["Rule"]}
    return self.serialized(ActionResult({"ReplicationConfiguration": configuration}))


def _draw_from_the_seed() -> None:
    """Have all that moto makes up depend on the request's seed and on nothing else.

    moto asks the system for key material and upload ids. And it draws from the seed whenever a
    service is first used in a region, be it by a request that the journal does not hold.
    """
    start_upload = moto.s3.models.FakeMultipart.__init__
    backend_of = AccountSpecificBackend.__getitem__

    def start_seeded_upload(it: moto.s3.models.FakeMultipart, *args: Any, **named: Any) -> None:  # noqa: ANN401
        start_upload(it, *args, **named)
        it.id = mock_random.get_random_string(_UPLOAD_ID_LENGTH)

    def make_seeded_key() -> bytes:
        return mock_random.randbytes(MASTER_KEY_LEN)

    def seeded_backend_of(of: AccountSpecificBackend[Any], region: str) -> object:
        if region in of.keys():  # noqa: SIM118 - `in of` is true of regions not used yet
            return backend_of(of, region)
        state = mock_random.getstate()
        mock_random.seed(f"{of.service_name} {of.account_id} {region}")
        try:
            return backend_of(of, region)
        finally:
            mock_random.setstate(state)

    setattr(moto.s3.models.FakeMultipart, "__init__", start_seeded_upload)  # noqa: B010
    setattr(moto.kms.models, "generate_master_key", make_seeded_key)  # noqa: B010
    setattr(AccountSpecificBackend, "__getitem__", seeded_backend_of)  # noqa: B010


def _take_loopback_for_encrypted() -> None:
    """Let rules against unencrypted transport concern nobody: nothing leaves this machine.

    moto knows no transport, and refuses whatever such a rule is about.
    """
    judge = IAMPolicyStatement.is_action_permitted

    def judge_as_encrypted(it: IAMPolicyStatement, *given: Any, **named: Any) -> PermissionResult:  # noqa: ANN401
        if it._statement.get("Condition") == _UNENCRYPTED:
            return PermissionResult.NEUTRAL
        return judge(it, *given, **named)

    setattr(IAMPolicyStatement, "is_action_permitted", judge_as_encrypted)  # noqa: B010


def main(folder: Path) -> None:
    """Serve until killed; `port` is written once every request would be answered."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    _draw_from_the_seed()
    _take_loopback_for_encrypted()
    setattr(S3Response, "get_bucket_replication", _get_bucket_replication)  # noqa: B010
    # Every request looks for its account in every partition of AWS, and loading one takes 0.2 s.
    setattr(moto.iam.models, "PARTITION_NAMES", ["aws"])  # noqa: B010
    server = Server(DomainDispatcherApplication(create_backend_app), Journal(folder / "journal"))
    port_file = folder / "port"
    listener = _listen(int(port_file.read_text()) if port_file.exists() else 0)
    port = listener.getsockname()[1]
    http = make_server(
        HOST,
        port,
        server,
        threaded=True,
        request_handler=MotoRequestHandler,
        fd=listener.fileno(),
    )
    new = port_file.with_suffix(".new")
    new.write_text(str(port))
    new.replace(port_file)
    http.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
