"""`adaptory tenant limits` and `adaptory usage`."""

import json

import pytest

from adaptory.registry.v1.tenant_pb2 import TenantLimits
from adaptory.registry.v1.usage_service_pb2 import Usage
from tests.fakes.services import Run, ScriptedServices

AURORA = "tenants/aurora"


def test_limits_change_one_by_one(run: Run, services: ScriptedServices, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not given stays, 0 lifts a limit, and without any they are shown."""
    run("tenant", "create", "aurora")
    assert run("tenant", "limits", "aurora", "--requests-per-minute", "60", "--tokens-per-day", "1000000") == 0
    assert run("tenant", "limits", AURORA, "--requests-per-minute", "0", "--max-output-tokens", "128") == 0
    capsys.readouterr()
    assert run("tenant", "limits", "aurora") == 0
    shown = capsys.readouterr().out
    assert run("tenant", "limits", "aurora", "--json") == 0

    assert services.registry.tenants[AURORA].limits == TenantLimits(tokens_per_day=1_000_000, max_output_tokens=128)
    assert "1,000,000" in shown
    assert json.loads(capsys.readouterr().out)["limits"]["max_output_tokens"] == 128


def test_a_limit_below_nothing_is_refused(run: Run) -> None:
    """Before anything is asked of a service."""
    assert run("tenant", "limits", "aurora", "--tokens-per-day", "-1") == 2


def test_usage_is_shown_with_its_sum(
    run: Run, services: ScriptedServices, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page of it, in the contract's words with --json; the question is passed on."""
    monkeypatch.setenv("COLUMNS", "80")
    days = ("2026-01-30", "2026-01-31", "2026-02-01")
    services.ledger.usage = [
        Usage(version=f"{AURORA}/bots/faq/versions/1", day=day, num_requests=1_000, num_prompt_tokens=5, num_failed=7)
        for day in days
    ]
    asked = ("usage", "aurora", "--bot", "faq", "--since", days[0], "--until", days[2])
    assert run(*asked) == 0
    shown = capsys.readouterr().out
    assert run(*asked, "--json") == 0

    assert [record["day"] for record in json.loads(capsys.readouterr().out)] == list(days)
    assert all(text in shown for text in (*days, "aurora/faq/1", "together", "3,000", "7 failed", "21 failed"))
    question = services.ledger.asked[0]
    assert (question.parent, question.bot) == (AURORA, f"{AURORA}/bots/faq")
    assert (question.first_day, question.last_day) == (days[0], days[2])


def test_usage_of_nobody_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table would leave it open whether something is wrong."""
    assert run("usage", "aurora") == 0
    assert "Nothing was used" in capsys.readouterr().out
