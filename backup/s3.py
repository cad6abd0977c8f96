"""A bucket as a backup store: boto3 in threads, conditional writes, checksums both ways.

Wrong credentials, a dead endpoint and a full disk over there are one thing here: the store is
not available, and whoever needed it must wait. The library is imported when a store is in a
bucket, and never otherwise.
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from backup.errors import CorruptObjectError, MissingObjectError, StoreError
from backup.store import ObjectExistsError
from kernel import SystemClock, UnavailableError, to_datetime

_Answer = TypeVar("_Answer")
_CONNECT_SECONDS = 3
_READ_SECONDS = 20
_DAY_US = 86_400_000_000
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_MISSING = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
_LOCKLESS = {
    "ObjectLockConfigurationNotFoundError",
    "NotImplemented",
    "MethodNotAllowed",
    "AccessDenied",  # a bucket that does not say whether it locks is taken for one that does not
}


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to reach the service; empty fields leave the choice to the usual AWS sources."""

    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""

    def __repr__(self) -> str:
        return f"<access to {self.endpoint or 'AWS'}>"


class S3Store:
    """Keeps objects in a bucket under a prefix."""

    def __init__(self, bucket: str, prefix: str, access: S3Access, *, locked_days: int = 0) -> None:
        self._bucket = bucket
        self._locked_days = locked_days
        self._locks: bool | None = None
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._access = access
        self._client: Any = None
        self.address = f"s3://{bucket}/{prefix.strip('/')}".rstrip("/")

    async def put(self, name: str, data: bytes) -> str | None:
        """Write a new object; the service checks its SHA-256 before it says yes."""
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        lock = await self._lock()
        answer = await self._call(
            name,
            lambda s3: s3.put_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                Body=data,
                IfNoneMatch="*",
                ChecksumSHA256=checksum,
                **lock,
            ),
        )
        version: str | None = answer.get("VersionId")
        return version

    async def locks(self) -> bool:
        """Say whether the bucket keeps what it is told to keep (Object Lock)."""

        def read(s3: Any) -> bool:
            """Ask for the bucket's configuration; one without a lock answers with an error."""
            try:
                answer = s3.get_object_lock_configuration(Bucket=self._bucket)
            except s3.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") in _LOCKLESS:
                    return False
                raise
            return bool(answer["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled")

        if self._locks is None:
            self._locks = await self._call("the bucket", read)
        return self._locks

    async def _lock(self) -> dict[str, Any]:
        """Give what tells the bucket to refuse every deletion, its owner's too, for so long."""
        if not self._locked_days or not await self.locks():
            return {}
        until_us = SystemClock().now_us() + self._locked_days * _DAY_US
        return {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": to_datetime(until_us)}

    async def get(self, name: str, version: str | None = None) -> bytes:
        """Read an object whole; a body shorter than it was announced is not one."""

        def read(s3: Any) -> tuple[bytes, int]:
            """Fetch the body and the length that was announced for it."""
            answer = s3.get_object(
                Bucket=self._bucket, Key=self._prefix + name, **_of_version(version)
            )
            return answer["Body"].read(), answer["ContentLength"]

        data, announced = await self._call(name, read)
        if len(data) != announced:
            raise CorruptObjectError(f"{name} was cut short by the store")
        return data

    async def size(self, name: str, version: str | None = None) -> int | None:
        """Give the size of an object."""
        try:
            answer = await self._call(
                name,
                lambda s3: s3.head_object(
                    Bucket=self._bucket, Key=self._prefix + name, **_of_version(version)
                ),
            )
        except MissingObjectError:
            return None
        return int(answer["ContentLength"])

    async def names(self, prefix: str, after: str = "") -> list[str]:
        """List the objects under a prefix, from a name on."""

        def read(s3: Any) -> list[str]:
            """Turn the pages of the listing."""
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket,
                Prefix=self._prefix + prefix,
                **({"StartAfter": self._prefix + after} if after else {}),
            )
            return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

        found = await self._call(prefix, read)
        return sorted(key[len(self._prefix) :] for key in found)

    async def delete(self, name: str, version: str | None = None) -> None:
        """Delete an object; with a version, that copy itself and not only the sight of it."""
        await self._call(
            name,
            lambda s3: s3.delete_object(
                Bucket=self._bucket, Key=self._prefix + name, **_of_version(version)
            ),
        )

    async def _call(self, name: str, act: Callable[[Any], _Answer]) -> _Answer:
        return await asyncio.to_thread(self._act, name, act)

    def _act(self, name: str, act: Callable[[Any], _Answer]) -> _Answer:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            return act(self._connected())
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _TAKEN:
                raise ObjectExistsError(name) from None
            if code in _MISSING:
                raise MissingObjectError(name) from None
            raise UnavailableError(
                f"the backup store answered {code or 'an error'}", reason="store_unavailable"
            ) from None
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise UnavailableError(
                f"the backup store cannot be reached ({type(error).__name__})",
                reason="store_unavailable",
            ) from None

    def _connected(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError

            access = self._access
            try:
                self._client = boto3.client(
                    "s3",
                    endpoint_url=access.endpoint or None,
                    region_name=access.region or None,
                    aws_access_key_id=access.access_key or None,
                    aws_secret_access_key=access.secret_key or None,
                    config=Config(
                        connect_timeout=_CONNECT_SECONDS,
                        read_timeout=_READ_SECONDS,
                        retries={"total_max_attempts": 2, "mode": "standard"},
                        s3={"addressing_style": "path"} if access.endpoint else {},
                    ),
                )
            except (BotoCoreError, ValueError):
                raise StoreError(
                    "the settings of the S3 store are wrong",
                    remedy="Look at backup.s3_endpoint and backup.s3_region in yinyom.toml.",
                ) from None
        return self._client


def _of_version(version: str | None) -> dict[str, str]:
    return {} if version is None else {"VersionId": version}
