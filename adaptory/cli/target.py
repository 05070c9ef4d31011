"""Which services a command calls, and with which key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from adaptory.client import DEFAULT_SERVER, DEFAULT_TRAINER, BlockingClient
from adaptory.core.errors import Unauthenticated
from adaptory.core.settings import is_loopback


@dataclass(frozen=True, slots=True)
class Target:
    """Addresses, HOST:PORT each, the key if one was given, and the authorities (PEM) if not the system's."""

    trainer: str
    server: str
    key: str | None
    ca_file: Path | None

    def open_client(self) -> BlockingClient:
        """Return a client with the key given, or on this machine the operator's own. Raises Unauthenticated when there is none."""
        return self._open(self.key or _read_admin_key(self.trainer, "trainer"))

    def open_server_client(self) -> BlockingClient:
        """Return a client with the key given, or on this machine that of serve_svc's operator. Raises Unauthenticated."""
        return self._open(self.key or _read_admin_key(self.server, "serve"))

    def open_tenant_client(self, tenant: str) -> BlockingClient:
        """Return a client with the key given, for calls that take no operator's key. Raises Unauthenticated when there is none."""
        if self.key is None:
            message = (
                "Bots answer their tenant's key only. `adaptory tenant key "
                f"{tenant}` prints one; put it into ADAPTORY_KEY or give --key."
            )
            raise Unauthenticated(message, reason="KEY_MISSING")
        return self._open(self.key)

    def _open(self, key: str) -> BlockingClient:
        return BlockingClient(key, trainer=self.trainer, server=self.server, ca_file=self.ca_file)


def read_target(
    context: typer.Context,
    trainer: Annotated[str, typer.Option(envvar="ADAPTORY_TRAINER", help="trainer_svc, HOST:PORT.")] = DEFAULT_TRAINER,
    server: Annotated[str, typer.Option(envvar="ADAPTORY_SERVER", help="serve_svc, HOST:PORT.")] = DEFAULT_SERVER,
    key: Annotated[str | None, typer.Option(envvar="ADAPTORY_KEY", help="The key to call with.")] = None,
    ca_file: Annotated[Path | None, typer.Option(envvar="ADAPTORY_CA", help="PEM of the services' authority.")] = None,
) -> None:
    """Train LoRA adapters per tenant under a memory limit and serve them hot on one base model."""
    context.obj = Target(trainer, server, key, ca_file)


def target_of(context: typer.Context) -> Target:
    """Return the target that `read_target` kept."""
    target = context.obj
    if not isinstance(target, Target):
        message = "commands run below the callback that reads the target"
        raise TypeError(message)
    return target


def _read_admin_key(address: str, service: str) -> str:
    file = platformdirs.user_state_path("adaptory") / service / "admin.key"
    if is_loopback(address) and file.is_file():
        return file.read_text().strip()
    command = {"trainer": "adaptory trainer", "serve": "adaptory serve"}[service]
    message = (
        f"No key for {address}: put one into ADAPTORY_KEY or give --key. On the machine of the service the operator's key "
        f"is taken from {file}, which `{command}` makes at its first start."
    )
    raise Unauthenticated(message, reason="KEY_MISSING")
