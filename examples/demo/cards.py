"""Writes the card of each version the demo trained, one page each, as `adaptory version card` does."""

from collections.abc import Sequence
from pathlib import Path

from adaptory.card.card import collect_card
from adaptory.card.page import render_page
from adaptory.client import BlockingClient
from adaptory.core.names import VersionName
from examples.demo.services import Services


def write_cards(services: Services, versions: Sequence[str], folder: Path) -> list[Path]:
    """Write a page for each version to `folder` and return where they are. Blocks. Raises RpcFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    with BlockingClient(services.admin_key, trainer=services.trainer, server=services.server) as client:
        return [_write_card(client, version, folder) for version in versions]


def _write_card(client: BlockingClient, version: str, folder: Path) -> Path:
    name = VersionName.parse(version, field="VERSION")
    page = folder / f"{name.tenant}-{name.bot}-{name.number}.html"
    page.write_text(render_page(collect_card(client, version)), encoding="utf-8")
    return page
