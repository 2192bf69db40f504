"""AWS clients for a local endpoint, and what their errors mean.

boto3 is imported at the first call: it costs as much time as all the rest, and most previews make
no call.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from local.providers.protocol import ProviderError

T = TypeVar("T")

_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 60


@dataclass(frozen=True)
class Clients:
    """One client per service and region, made when first asked for."""

    endpoint: str
    _made: dict[tuple[str, str], Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, service: str, region: str) -> Any:  # noqa: ANN401 - clients are made at run time
        """The client of a service in a region."""
        with self._lock:
            if (service, region) not in self._made:
                self._made[service, region] = self._make(service, region)
            return self._made[service, region]

    def _make(self, service: str, region: str) -> Any:  # noqa: ANN401
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=region,
            endpoint_url=self.endpoint,
            aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "local"),
            aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "local"),
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"total_max_attempts": 2},
                proxies={},  # the endpoint is this machine's own
                s3={"addressing_style": "path"},
            ),
        )


@dataclass(frozen=True)
class Aws:
    """AWS in one region."""

    clients: Clients
    region: str

    @property
    def s3(self) -> Any:  # noqa: ANN401
        """S3 in this region."""
        return self.clients.get("s3", self.region)

    @property
    def kms(self) -> Any:  # noqa: ANN401
        """KMS in this region."""
        return self.clients.get("kms", self.region)

    @property
    def iam(self) -> Any:  # noqa: ANN401
        """IAM, which has no regions."""
        return self.clients.get("iam", self.region)

    @property
    def sts(self) -> Any:  # noqa: ANN401
        """STS in this region."""
        return self.clients.get("sts", self.region)

    def elsewhere(self, region: str) -> "Aws":
        """AWS in another region."""
        return Aws(self.clients, region)


def unless(codes: tuple[str, ...], call: Callable[..., T], /, **arguments: object) -> T | None:
    """What `call(**arguments)` returns; None if it fails with one of these error codes."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    try:
        return call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] in codes:
            return None
        raise


@contextmanager
def readable_errors(what: str) -> Iterator[None]:
    """Turn AWS's errors into one sentence that begins with `what`."""
    from botocore.exceptions import (  # noqa: PLC0415
        BotoCoreError,
        ClientError,
        ConnectionError,  # noqa: A004 - botocore's name
        HTTPClientError,
    )

    try:
        yield
    except ClientError as error:
        detail = error.response["Error"]
        raise ProviderError(
            f"{what}: {error.operation_name}: {detail.get('Message') or 'refused'}"
            f" ({detail.get('Code')})"
        ) from None
    except (ConnectionError, HTTPClientError):
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        raise ProviderError(
            f"{what}: the AWS endpoint {endpoint} (AWS_ENDPOINT_URL) does not answer"
        ) from None
    except BotoCoreError as error:
        raise ProviderError(f"{what}: {error}") from None
