"""ServeAdminService on the wire: what operators see of a server and ask of it."""

# ruff: noqa: ARG002 - the signatures are gRPC's

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from adaptory.core.auth import current_caller
from adaptory.core.errors import Unavailable
from adaptory.core.names import VersionName
from adaptory.serve.v1 import serve_admin_service_pb2, serve_admin_service_pb2_grpc
from serve_svc.adapters.cache import AdapterCache
from serve_svc.adapters.capacity import Capacity
from serve_svc.adapters.deployment import Deployment
from serve_svc.adapters.residency import dump_capacity, dump_known, dump_quarantine, dump_resident
from serve_svc.deadline import Closing, Deadline
from serve_svc.metrics import EngineMetrics
from serve_svc.queue.places import PlaceLimits
from serve_svc.registry.feed import RegistryFeed
from serve_svc.routing import Router

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Operated:
    """The parts of a server that an operator looks at."""

    router: Router
    cache: AdapterCache
    deployment: Deployment
    feed: RegistryFeed
    engine_metrics: EngineMetrics
    closing: Closing
    base_digest: str
    max_resident: int
    max_disk_bytes: int
    capacity: Capacity
    places: PlaceLimits
    max_step_tokens: int


class ServeAdminServicer(serve_admin_service_pb2_grpc.ServeAdminServiceServicer):
    """Answers operators."""

    def __init__(self, operated: Operated, drain: Callable[[], Awaitable[int]]) -> None:
        """`drain` takes no more requests and returns how many ran, when they have ended."""
        self._operated = operated
        self._drain = drain

    async def GetResidency(
        self, request: serve_admin_service_pb2.GetResidencyRequest, context: Context
    ) -> serve_admin_service_pb2.Residency:
        """Return what is in the engine, nothing while it is being rebuilt, and what else is known of versions."""
        operated, cache = self._operated, self._operated.cache
        try:
            adapters = await cache.residents()
        except Unavailable:
            adapters = ()
        return serve_admin_service_pb2.Residency(
            base_digest=operated.base_digest,
            max_resident=operated.max_resident,
            adapters=[dump_resident(adapter) for adapter in adapters],
            generation=operated.router.table.generation,
            following=operated.feed.following,
            num_engine_starts=operated.engine_metrics.num_starts,
            versions=[dump_known(adapter, cache.now()) for adapter in cache.known()],
            disk_bytes=cache.disk_bytes,
            max_disk_bytes=operated.max_disk_bytes,
            memory=dump_capacity(operated.capacity),
            batches=_dump_batches(operated.places, operated.max_step_tokens),
        )

    async def WarmVersion(
        self, request: serve_admin_service_pb2.WarmVersionRequest, context: Context
    ) -> serve_admin_service_pb2.WarmVersionResponse:
        """Load the version's adapter; `versions/0` needs none."""
        name = VersionName.parse(request.name, field="name")
        adapter = self._operated.router.route(name, current_caller.get()).adapter
        if adapter is None:
            return serve_admin_service_pb2.WarmVersionResponse(load_seconds=0)
        deadline = Deadline(context.time_remaining(), self._operated.closing)
        seconds = await deadline.bound(self._operated.deployment.warm(adapter))
        return serve_admin_service_pb2.WarmVersionResponse(load_seconds=seconds)

    async def ReleaseVersion(
        self, request: serve_admin_service_pb2.ReleaseVersionRequest, context: Context
    ) -> serve_admin_service_pb2.ReleaseVersionResponse:
        """Let a version in quarantine be tried again; `versions/0` is never in one."""
        name, cache = VersionName.parse(request.name, field="name"), self._operated.cache
        adapter = self._operated.router.route(name, current_caller.get()).adapter
        quarantine = await cache.release(adapter) if adapter else None
        dumped = dump_quarantine(quarantine, cache.now()) if quarantine else None
        return serve_admin_service_pb2.ReleaseVersionResponse(quarantine=dumped)

    async def Drain(
        self, request: serve_admin_service_pb2.DrainRequest, context: Context
    ) -> serve_admin_service_pb2.DrainResponse:
        """Take no new request, and return when the running ones have ended."""
        return serve_admin_service_pb2.DrainResponse(num_drained=await self._drain())


def _dump_batches(places: PlaceLimits, max_step_tokens: int) -> serve_admin_service_pb2.Batches:
    return serve_admin_service_pb2.Batches(
        max_in_flight=places.max_in_flight,
        kept_places=places.num_kept,
        max_loras=places.max_adapters,
        max_step_tokens=max_step_tokens,
        max_tokens_in_flight=places.max_tokens,
        max_unread_tokens=places.max_unread_tokens,
    )
