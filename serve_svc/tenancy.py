"""Who calls, and how much one tenant may ask at once.

Keys come from the routing table, so a key that is revoked in the registry is refused here with the next update. Which thing a tenant
may see is `routing.py`; which request goes first is `queue/admission.py`.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from adaptory.core.auth import Caller, Role
from adaptory.core.errors import Busy, Unavailable
from adaptory.core.names import TenantName
from serve_svc.routing import NOTHING_KNOWN, Router

_RETRY_AFTER_S = 1.0


class TableKeyring:
    """The tenants' keys of the router's table. An index is made once for a table, when its first call comes."""

    def __init__(self, router: Router) -> None:
        """Read the router's table at every call."""
        self._router = router
        self._table = NOTHING_KNOWN
        self._owners: dict[str, str] = {}

    async def find_caller(self, key_digest: str) -> Caller | None:
        """Return the tenant with this key, or None. Raises Unavailable while no state of the registry is known."""
        table = self._router.table
        if not table.is_known:
            raise Unavailable(
                f"This server has not heard from the registry yet, so it knows no keys; retry in {_RETRY_AFTER_S:.0f} s.",
                reason="REGISTRY_NOT_HEARD",
                retry_after_s=_RETRY_AFTER_S,
            )
        if table is not self._table:
            tenants = table.tenants.values()
            self._owners = {digest: tenant.name.tenant for tenant in tenants for digest in tenant.key_digests}
            self._table = table
        tenant = self._owners.get(key_digest)
        return Caller(Role.TENANT, tenant) if tenant else None


def weigh(router: Router, tenant: str) -> float:
    """Return the tenant's share of the engine, as the router's table has it now; 1 for one that is gone while it waits."""
    found = router.table.tenants.get(str(TenantName(tenant)))
    return float(found.weight) if found else 1.0


class Intake:
    """Counts the requests under way, refuses those above a tenant's limit, and all of them once the server drains."""

    def __init__(self) -> None:
        """Begin open, with nothing under way."""
        self._running: Counter[str] = Counter()
        self.is_open = True
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def num_running(self) -> int:
        """Requests under way, waiting ones included."""
        return self._running.total()

    @contextmanager
    def hold_place(self, tenant: str, max_in_flight: int) -> Iterator[None]:
        """Count one request of the tenant while the block runs. Raises Busy at its limit, Unavailable when the server drains."""
        if not self.is_open:
            raise Unavailable(
                "The server is draining; ask another one.", reason="DRAINING", retry_after_s=_RETRY_AFTER_S
            )
        if self._running[tenant] >= max_in_flight:
            raise Busy(
                f"{self._running[tenant]} requests of this tenant are under way, its limit is {max_in_flight}: "
                "wait for one to end, or ask the operator for a higher limit.",
                reason="TENANT_LIMIT",
                metadata={"in_flight": self._running[tenant], "max_in_flight": max_in_flight},
                retry_after_s=_RETRY_AFTER_S,
            )
        self._running[tenant] += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
            if not self._running:
                self._is_idle.set()

    async def drain(self) -> int:
        """Take no new request, and return how many were under way when all of them have ended."""
        self.close()
        num_drained = self.num_running
        await self._is_idle.wait()
        return num_drained

    def close(self) -> None:
        """Take no new request from now on."""
        self.is_open = False
