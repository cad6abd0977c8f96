"""The `aws-kms` KMS: a symmetric key of AWS KMS, with an encryption context.

Ring and controller stand in the encryption context, so key policies and CloudTrail can name
them. AWS keeps every earlier version of a key, and deletes a whole key after a week at the
earliest: what makes a seal final is the erasable secret of the key ring.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from kernel import UnavailableError, YinyomError
from vault.errors import UnreadableError
from vault.providers.protocol import ProviderHealth
from vault.providers.remote import (
    MISUNDERSTANDINGS,
    not_understood,
    refused,
    require,
    require_tls,
    unreachable,
)
from vault.ring_file import context_parts
from vault.wrapping import KeptSecret

_KMS = "AWS KMS"
_REMEDY = "Look at kms.aws_key and at what the key policy lets this role do."
_UNREADABLE = {"InvalidCiphertextException", "IncorrectKeyException"}
_DOWN = {
    "DependencyTimeoutException",
    "InternalFailure",
    "KMSInternalException",
    "KeyUnavailableException",
    "LimitExceededException",
    "ServiceUnavailable",
    "ThrottlingException",
}
_SERVER_FAULT = 500
_POLL_SECONDS = 0.5
Answer = TypeVar("Answer")


class AwsKmsKeyProvider(KeptSecret):
    """One key of AWS KMS, by ARN, id or alias; credentials come from the usual AWS sources."""

    name = "aws-kms"
    destroys = False

    def __init__(
        self,
        key: str,
        *,
        region: str = "",
        endpoint: str = "",
        access_key: str = "",
        secret_key: str = "",
        timeout_seconds: float = 10.0,
        rotation_seconds: float = 60.0,
    ) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self._key = require(key, "kms.aws_key", "Name the key by its ARN or alias.")
        if endpoint:
            require_tls(endpoint, "kms.aws_endpoint")
        self._rotation_seconds = rotation_seconds
        config = Config(
            connect_timeout=timeout_seconds,
            read_timeout=timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        try:
            self._client = boto3.client(
                "kms",
                region_name=region or None,
                endpoint_url=endpoint or None,
                aws_access_key_id=access_key or None,
                aws_secret_access_key=secret_key or None,
                config=config,
            )
        except (BotoCoreError, ValueError) as error:
            raise refused(_KMS, type(error).__name__, "Set kms.aws_region.") from None

    def wrap(self, secret: bytes | bytearray, context: bytes) -> bytes:
        """Protect a secret with `Encrypt`."""
        answer = self._ask(
            lambda: self._client.encrypt(
                KeyId=self._key, Plaintext=bytes(secret), EncryptionContext=_context(context)
            )
        )
        return _bytes(answer, "CiphertextBlob")

    def unwrap(self, wrapped: bytes, context: bytes) -> bytearray:
        """Open a secret with `Decrypt`, under this key and no other."""
        if not wrapped:
            raise UnreadableError
        answer = self._ask(
            lambda: self._client.decrypt(
                KeyId=self._key, CiphertextBlob=wrapped, EncryptionContext=_context(context)
            )
        )
        return bytearray(_bytes(answer, "Plaintext"))

    def rotate(self) -> str:
        """Rotate the key on demand and wait until AWS says it is done.

        AWS allows a key a limited number of these in its life: for a leaked or aged key, not
        for every night. One that is under way already is waited for.
        """
        before = self._rotations()
        status = self._ask(lambda: self._client.get_key_rotation_status(KeyId=self._key))
        if "OnDemandRotationStartDate" not in status:
            self._ask(lambda: self._client.rotate_key_on_demand(KeyId=self._key))
        deadline = time.monotonic() + self._rotation_seconds
        while (now := self._rotations()) <= before:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    "AWS KMS is still rotating the key",
                    reason="kms_rotating",
                    remedy="Nothing was changed here. Rotate again in some minutes: "
                    "what is under way is waited for, not begun anew.",
                )
            time.sleep(_POLL_SECONDS)
        return str(now + 1)

    def destroy(self, version: str) -> bool:  # noqa: ARG002 (the protocol's shape)
        """AWS KMS destroys no single version of a key."""
        return False

    def health(self) -> ProviderHealth:
        """Ask for the state of the key."""
        try:
            answer = self._ask(lambda: self._client.describe_key(KeyId=self._key))
            state = answer["KeyMetadata"]["KeyState"]
            if state != "Enabled":
                return ProviderHealth(ok=False, version="", versions=(), says="key not enabled")
            newest = self._rotations() + 1
        except (KeyError, TypeError):
            return ProviderHealth(
                ok=False, version="", versions=(), says=not_understood(_KMS).detail
            )
        except YinyomError as error:
            return ProviderHealth(ok=False, version="", versions=(), says=error.detail)
        versions = tuple(str(number) for number in range(1, newest + 1))
        says = f"AWS KMS, key version {newest}; old versions stay, the erasable secret ends them"
        return ProviderHealth(ok=True, version=str(newest), versions=versions, says=says)

    def _rotations(self) -> int:
        pages = self._client.get_paginator("list_key_rotations").paginate(KeyId=self._key)
        return self._ask(lambda: sum(len(page["Rotations"]) for page in pages))

    def _ask(self, call: Callable[[], Answer]) -> Answer:
        with _explained():
            return call()


@contextmanager
def _explained() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _UNREADABLE:
            raise UnreadableError from None
        if code in _DOWN or status >= _SERVER_FAULT:
            raise unreachable(_KMS, code) from None
        raise refused(_KMS, code, _REMEDY) from None
    except (NoCredentialsError, NoRegionError) as error:
        remedy = "Give this machine a role or credentials, and set kms.aws_region."
        raise refused(_KMS, type(error).__name__, remedy) from None
    except (BotoCoreError, OSError) as error:
        raise unreachable(_KMS, type(error).__name__) from None
    except MISUNDERSTANDINGS:
        raise not_understood(_KMS) from None


def _bytes(answer: Any, name: str) -> bytes:
    found = answer.get(name)
    if not isinstance(found, bytes) or not found:
        raise not_understood(_KMS)
    return found


def _context(context: bytes) -> dict[str, str]:
    ring_id, tenant, purpose = context_parts(context)
    return {"yinyom-ring": ring_id, "yinyom-tenant": tenant, "yinyom-purpose": purpose}
