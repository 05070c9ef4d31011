"""`adaptory server`: what an operator sees of serve_svc and does about it."""

import json

import pytest

from tests.fakes.services import Run

FIRST, SECOND = (f"tenants/aurora/bots/faq/versions/{number}" for number in (1, 2))


def test_show_tells_where_each_version_stands(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """State, users and the reason of a quarantine stand beside each version, and how full the tiers are below."""
    assert run("server", "show") == 0
    told = " ".join(capsys.readouterr().out.split())

    assert "loaded" in told
    assert "quarantined" in told
    assert "1 of at most 4 adapters in the engine" in told
    assert (
        "takes 12 requests at once and 6 kept places, 3 adapters among them, 2,048 tokens a step, 24,576 in flight"
        in told
    )
    run("server", "show", "--json")
    assert json.loads(capsys.readouterr().out)["versions"][1]["quarantine"]["reason"] == "CORRUPTED"


def test_release_says_what_it_ended(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A version in quarantine is released with the reason why it was there; another one was in none."""
    assert run("server", "release", SECOND) == 0
    assert f"{SECOND} was in quarantine (CORRUPTED)" in " ".join(capsys.readouterr().out.split())
    assert run("server", "release", FIRST) == 0
    assert f"{FIRST} was in no quarantine" in " ".join(capsys.readouterr().out.split())
