"""What a scrape asks a server's parts for."""

from prometheus_client import CollectorRegistry

from serve_svc.adapters.cache import AdapterCache
from serve_svc.metrics import add_gauge, add_state_gauge
from serve_svc.registry.feed import RegistryFeed
from serve_svc.routing import Router
from serve_svc.tenancy import Intake
from serve_svc.usage.accounts import Accounts


def add_gauges(
    registry: CollectorRegistry,
    intake: Intake,
    feed: RegistryFeed,
    router: Router,
    accounts: Accounts,
    cache: AdapterCache,
) -> None:
    """Add the gauges of all parts."""
    reporter = accounts.reporter
    add_gauge(registry, "streams_in_flight", "Requests under way, waiting ones included.", lambda: intake.num_running)
    add_gauge(registry, "registry_following", "1 while the registry is followed.", lambda: feed.following)
    add_gauge(registry, "registry_generation", "Generation of the state served.", lambda: router.table.generation)
    add_gauge(
        registry,
        "usage_unreported_requests",
        "Requests counted that the registry's ledger has not taken.",
        lambda: reporter.num_unreported,
    )
    add_state_gauge(registry, cache.count)
