"""Settings: safe by default, and every mistake is named before anything listens."""

from pathlib import Path

import pytest

from adaptory.core.errors import InvalidRequest
from adaptory.core.settings import ServiceSettings, is_loopback


def test_the_default_binds_loopback_only() -> None:
    """Nobody else's machine can reach a service that was not told so."""
    settings = ServiceSettings.load()

    assert is_loopback(settings.address)
    assert is_loopback(settings.metrics_address)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "example.org:1"])
def test_another_address_without_tls_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """The refusal says why and what to give."""
    monkeypatch.setenv("ADAPTORY_ADDRESS", address)

    with pytest.raises(InvalidRequest, match="give tls_certificate and tls_key"):
        ServiceSettings.load()


def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt setting is not silently ignored."""
    monkeypatch.setenv("ADAPTORY_ADRESS", "127.0.0.1:1")

    with pytest.raises(InvalidRequest, match="ADAPTORY_ADRESS"):
        ServiceSettings.load()


def test_every_bad_key_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    """One run shows all there is to mend."""
    file = tmp_path / "settings.toml"
    file.write_text('address = "nowhere"\nmax_message_bytes = "many"\ncolour = "red"\n')

    with pytest.raises(InvalidRequest) as refused:
        ServiceSettings.load(file)

    assert {violation.field for violation in refused.value.violations} == {"address", "max_message_bytes", "colour"}


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator can override a shipped file without editing it."""
    file = tmp_path / "settings.toml"
    file.write_text("drain_seconds = 1\n")
    monkeypatch.setenv("ADAPTORY_DRAIN_SECONDS", "2")

    assert ServiceSettings.load(file).drain_seconds == 2
