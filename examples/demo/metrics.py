"""Looks at what an operator's Prometheus would see of both services."""

import asyncio
import urllib.request
from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 10


async def scrape(address: str) -> dict[str, float]:
    """Return the sum over all labels of every sample that HOST:PORT exposes, by name. Raises OSError when it does not answer."""
    text = await asyncio.to_thread(_fetch, f"http://{address}/metrics")
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def select(samples: dict[str, float], names: Sequence[str]) -> dict[str, float]:
    """Return the samples of these names. Raises KeyError when a service does not expose one."""
    return {name: samples[name] for name in names}


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply:  # noqa: S310 - a service we started, over http
        body: bytes = reply.read()
    return body.decode()
