"""The doctor on the environment that the tests themselves run in."""

import json

import pytest

from adaptory.cli.__main__ import main


def test_doctor_finds_this_environment_sound(capsys: pytest.CaptureFixture[str]) -> None:
    """Python, vLLM, torch and bitsandbytes are looked at for real, and none of them is broken where `make test` runs."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert [finding for finding in printed["findings"] if finding["verdict"] == "broken"] == []
    assert ended.value.code == 0
    assert {"torch", "bitsandbytes", "grpcio"} <= printed["versions"].keys()
