"""The first call of the README, as a user would copy it."""

import pytest

from examples.first_call import main
from tests.fakes.services import KEY, open_in_thread


def test_first_call_prints_the_answer_and_its_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The generated stubs alone are enough to ask a bot."""
    with open_in_thread() as services:
        monkeypatch.setenv("ADAPTORY_KEY", KEY)
        monkeypatch.setenv("ADAPTORY_SERVER", services.server_address)
        main("tenants/aurora/bots/faq", "How long?")
    assert capsys.readouterr().out.split("\n")[:2] == [
        services.script.answer + " ",
        "tenants/aurora/bots/faq/versions/1, 4 tokens",
    ]
