"""`adaptory bot`: which version answers whom."""

import pytest

from tests.fakes.services import Run

BOT = "tenants/aurora/bots/faq"
FIRST, SECOND = f"{BOT}/versions/1", f"{BOT}/versions/2"


def test_rollback_without_a_version_before(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A bot that never had another version says so."""
    run("bot", "create", BOT)
    assert run("bot", "rollback", BOT) == 2
    assert "NO_PREVIOUS_VERSION" in capsys.readouterr().err


def test_a_canary_is_told_with_its_share_until_it_ends(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Both versions stand in the list of bots meanwhile."""
    run("bot", "create", BOT)
    run("bot", "promote", FIRST)
    capsys.readouterr()
    assert run("bot", "canary", SECOND, "--percent", "10") == 0
    assert f"{SECOND} answers 10 % of the conversations, {FIRST} the others." in capsys.readouterr().out.replace(
        "\n", " "
    )
    run("bot", "list", "tenants/aurora", "--json")
    assert f'"canary": "{SECOND}"' in capsys.readouterr().out
    assert run("bot", "canary", SECOND, "--percent", "0") == 0
    assert f"{SECOND} is no canary" in capsys.readouterr().out.replace("\n", " ")


def test_a_shadow_is_told_with_its_share_until_it_ends(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told that production answers."""
    run("bot", "create", BOT)
    run("bot", "promote", FIRST)
    capsys.readouterr()
    assert run("bot", "shadow", SECOND, "--percent", "10") == 0
    assert f"{SECOND} is asked in 10 % of the conversations, and {FIRST} answers them." in (
        capsys.readouterr().out.replace("\n", " ")
    )
    run("bot", "list", "tenants/aurora", "--json")
    assert f'"shadow": "{SECOND}"' in capsys.readouterr().out
    assert run("bot", "shadow", SECOND, "--percent", "0") == 0
    assert f"{SECOND} is no shadow." in capsys.readouterr().out.replace("\n", " ")
