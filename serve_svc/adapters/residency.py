"""What a server says of its adapters, in the contract's words."""

from datetime import UTC, datetime, timedelta

from adaptory.serve.v1 import serve_admin_service_pb2 as pb
from serve_svc.adapters.book import KnownAdapter
from serve_svc.adapters.capacity import Capacity
from serve_svc.adapters.quarantine import Moment, Quarantine


def dump_resident(adapter: KnownAdapter) -> pb.ResidentAdapter:
    """Return one adapter in the engine."""
    return pb.ResidentAdapter(
        version=adapter.version.name,
        digest=adapter.version.digest,
        engine_id=adapter.version.engine_id,
        num_leases=adapter.num_leases,
    )


def dump_known(adapter: KnownAdapter, now: Moment) -> pb.KnownVersion:
    """Return one version that is known of."""
    return pb.KnownVersion(
        version=adapter.version.name,
        state=f"STATE_{adapter.state.value}",
        num_leases=adapter.num_leases,
        quarantine=dump_quarantine(adapter.quarantine, now) if adapter.quarantine else None,
    )


def dump_quarantine(quarantine: Quarantine, now: Moment) -> pb.Quarantine:
    """Return why a version is refused."""
    dumped = pb.Quarantine(reason=quarantine.cause.reason, message=quarantine.cause.message)
    dumped.since_time.FromDatetime(quarantine.since)
    if quarantine.retry_at_s is not None:
        dumped.retry_time.FromDatetime(_utc_of(quarantine.retry_at_s, now))
    return dumped


def dump_capacity(capacity: Capacity) -> pb.MemoryPlan:
    """Return what the server takes in main memory."""
    return pb.MemoryPlan(
        limit_bytes=capacity.limit_bytes,
        processes_bytes=capacity.processes_bytes,
        base_bytes=capacity.base_bytes,
        kv_cache_bytes=capacity.kv_cache_bytes,
        slots_bytes=capacity.slots_bytes,
        adapter_bytes=capacity.adapter_bytes,
        total_bytes=capacity.total_bytes,
    )


def _utc_of(monotonic_s: float, now: Moment) -> datetime:
    return (now.utc + timedelta(seconds=monotonic_s - now.monotonic_s)).astimezone(UTC)
