"""What every service's settings share: read once, frozen, unknown or bad keys refused with all of them named.

Values come from, in this order: the environment, a TOML file, the defaults. The environment is read here and nowhere else.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from adaptory.core.errors import FieldViolation, InvalidRequest


class ServiceSettings(BaseSettings):
    """Addresses, TLS and limits of one gRPC service; a subclass adds its own fields and its `env_prefix`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="ADAPTORY_")

    address: str = "127.0.0.1:0"
    """Where gRPC is served, HOST:PORT; port 0 takes a free one."""
    metrics_address: str = "127.0.0.1:0"
    """Where Prometheus metrics are served over HTTP, HOST:PORT."""
    tls_certificate: Path | None = None
    """PEM certificate chain; needed, with its key, for any address that is not loopback."""
    tls_key: Path | None = None
    """PEM private key of the certificate."""
    max_message_bytes: int = 4 * 1024 * 1024
    """Larger gRPC messages are refused with RESOURCE_EXHAUSTED."""
    max_write_seconds: float = 30.0
    """How long a message of a stream may wait for a caller that does not read; then the stream is ended."""
    drain_seconds: float = 20.0
    """How long running calls may take to end after SIGTERM."""
    max_tenant_labels: int = 100
    """Metrics name this many tenants (and as many bots); the others are counted as `other`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose values arrive as arguments."""
        return env_settings, init_settings

    @classmethod
    def load(cls, file: Path | None = None) -> Self:
        """Read the settings. Raises InvalidRequest with every bad or unknown key at once."""
        values = _read_toml(file)
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise _to_invalid(error) from None
        _refuse_unknown_environment(cls, os.environ)
        return settings

    @field_validator("address", "metrics_address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _refuse_open_door(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            message = "tls_certificate and tls_key go together: give both files or neither"
            raise ValueError(message)
        self._refuse_clear_keys("address", self.address)
        return self

    def _refuse_clear_keys(self, name: str, address: str) -> None:
        if self.tls_certificate is None and not is_loopback(address):
            message = (
                f"{name} {address} can be reached from other machines, and keys would cross the network in clear: "
                "give tls_certificate and tls_key, or bind 127.0.0.1"
            )
            raise ValueError(message)


def split_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT. Raises ValueError that says what is wrong."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the largest port there is
        message = f"{address!r} is not HOST:PORT with a port of 0 to 65535"
        raise ValueError(message)
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach HOST:PORT; a name other than localhost counts as reachable."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_toml(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest.of_field("--config", f"{file} cannot be read as TOML: {error}") from error


def _to_invalid(error: ValidationError) -> InvalidRequest:
    violations = [
        FieldViolation(
            ".".join(str(part) for part in problem["loc"]) or "settings", problem["msg"].removeprefix("Value error, ")
        )
        for problem in error.errors(include_url=False, include_input=False)
    ]
    sentences = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return InvalidRequest(f"The settings cannot be used: {sentences}", violations=violations)


def _refuse_unknown_environment(settings: type[BaseSettings], environment: Mapping[str, str]) -> None:
    # pydantic-settings ignores variables it does not know; a misspelt one would be a setting silently not set.
    prefix = settings.model_config.get("env_prefix", "")
    known = {f"{prefix}{name}".upper() for name in settings.model_fields}
    unknown = sorted(key for key in environment if key.startswith(prefix) and key.upper() not in known)
    if unknown:
        violations = [FieldViolation(key, "is not a setting of this service") for key in unknown]
        raise InvalidRequest(f"Unknown settings in the environment: {', '.join(unknown)}", violations=violations)
