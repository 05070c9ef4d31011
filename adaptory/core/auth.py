"""Who calls: keys, roles, and which role may call which method.

A key is 256 random bits; only its SHA-256 is kept. The tenant comes from the key and from nothing else.
"""

import enum
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adaptory.core.errors import NotFound, PermissionDenied, Unauthenticated

_KEY_PREFIX = "adk_"


class Role(enum.StrEnum):
    """What a key may do: run the service, serve adapters, or act for one tenant."""

    ADMIN = "admin"
    SERVER = "server"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of the key of one call; `tenant` is set for role TENANT only."""

    role: Role
    tenant: str | None = None

    def require_tenant(self, tenant: str, *, name: str) -> None:
        """Refuse a thing of another tenant as if it did not exist. Raises NotFound."""
        if self.role is Role.TENANT and self.tenant != tenant:
            raise not_found(name)


# The one piece of context that is not passed by hand: set by the interceptor for the length of a call.
current_caller: ContextVar[Caller] = ContextVar("current_caller")


class Keyring(Protocol):
    """Knows the keys that are good now."""

    async def find_caller(self, key_digest: str) -> Caller | None:
        """Return the owner of the key with this SHA-256 (lower-case hex), or None when nobody issued it or it is revoked."""


class FixedKeyring:
    """The keys of a service's own settings, asked before a keyring of tenants."""

    def __init__(self, key_digests: Mapping[str, Role], tenants: Keyring) -> None:
        """Take SHA-256 digests with their roles, and where to look for tenants' keys."""
        self._key_digests = dict(key_digests)
        self._tenants = tenants

    async def find_caller(self, key_digest: str) -> Caller | None:
        """Return the owner of the key, or None."""
        for digest, role in self._key_digests.items():
            if hmac.compare_digest(digest, key_digest):
                return Caller(role)
        return await self._tenants.find_caller(key_digest)


def not_found(name: str) -> NotFound:
    """Build the one answer for what is absent and for what is another tenant's."""
    message = f"{name} does not exist, or is not the caller's."
    return NotFound(message, metadata={"name": name})


def make_key() -> str:
    """Return a new key: 256 random bits behind a prefix that secret scanners can find."""
    return _KEY_PREFIX + secrets.token_urlsafe(32)


def digest_key(key: str) -> str:
    """Return the SHA-256 of a key, lower-case hex. Random keys need no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


def load_or_make_key(path: Path) -> str:
    """Return the key in a file; make the file, readable by its owner only, when it is absent. Safe when two do it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(make_key() + "\n")
    try:
        # link never replaces: whoever comes second reads the first one's key.
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    return path.read_text().strip()


async def authenticate(metadata: Mapping[str, str | bytes], keyring: Keyring) -> Caller:
    """Return who calls, from `authorization: Bearer KEY`. Raises Unauthenticated."""
    header = metadata.get("authorization")
    if not isinstance(header, str) or not header.startswith("Bearer "):
        message = "No key: send `authorization: Bearer KEY` along."
        raise Unauthenticated(message, reason="KEY_MISSING")
    caller = await keyring.find_caller(digest_key(header.removeprefix("Bearer ").strip()))
    if caller is None:
        message = "The key is not one that was issued, or it was revoked; ask the operator for another."
        raise Unauthenticated(message, reason="KEY_UNKNOWN")
    return caller


def authorize(caller: Caller, method: str, access: Mapping[str, frozenset[Role]]) -> None:
    """Refuse a caller whose role the method does not take. A method without a row is refused to all. Raises PermissionDenied."""
    allowed = access.get(method, frozenset())
    if caller.role in allowed:
        return
    wanted = " or ".join(sorted(role.value for role in allowed)) or "nobody's"
    message = f"{method} takes a key of {wanted}; this one is of {caller.role.value}."
    raise PermissionDenied(message, reason="ROLE_NOT_ALLOWED", metadata={"method": method, "role": caller.role.value})
