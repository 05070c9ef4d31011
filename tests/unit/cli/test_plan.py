"""`adaptory plan`, as a user types it: the real planner answers in its child."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptory.cli.__main__ import main
from tests.fakes.base import NAME, write_base
from trainer_svc.jobs.machine import LocalMachine
from trainer_svc.memory.speed import SpeedFile, assume_speed

GIB = 1 << 30
MEASURED_FLOPS = 3.21e11
Plan = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache in which this machine's speed was measured before."""
    machine = LocalMachine(tmp_path / "cache")
    speed = replace(assume_speed(machine.device), is_measured=True, product_flops=MEASURED_FLOPS)
    SpeedFile(machine.speed_file).write(machine.device, speed)
    return tmp_path / "cache"


@pytest.fixture
def plan(cache: Path, capfd: pytest.CaptureFixture[str]) -> Plan:
    """Runs `adaptory plan ... --json` and returns its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = _run("plan", *arguments, "--cache", str(cache), "--json")
        printed: dict[str, Any] = json.loads(capfd.readouterr().out)
        return code, printed

    return run


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.mark.parametrize(("base", "limit"), [("llama-2-7b", "8GiB"), ("llama-2-13b", "12GiB")])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_llama_2_fits_without_offload(plan: Plan, base: str, limit: str, device: str) -> None:
    """The promise of the product: 7B in 8 GiB and 13B in 12 GiB at 2,048 tokens, and nothing was downloaded for the answer."""
    code, answer = plan(
        "--base",
        base,
        "--method",
        "qlora",
        "--limit",
        limit,
        "--max-tokens",
        "2048",
        "--no-offload",
        "--device",
        device,
    )

    best = answer["plans"][0]
    assert code == 0
    assert sum(best["terms"].values()) == best["peak_bytes"] == max(best["phases"].values()) <= answer["limit_bytes"]
    assert not best["offloads"]
    assert best["seconds"] > 0
    assert best["settings"]["micro_batch_rows"] * best["settings"]["accumulation"] == 8


def test_13b_in_8_gib_is_refused_without_offload_with_what_would_help(plan: Plan) -> None:
    """Exit code 3, no plans, the smallest limit, and changes each of which makes it fit."""
    asked = ("--base", "llama-2-13b", "--max-tokens", "2048", "--device", "cuda")

    code, answer = plan(*asked, "--limit", "8GiB", "--no-offload")

    smallest, changes = answer["smallest_limit_bytes"], {change["what"]: change for change in answer["changes"]}
    assert (code, answer["plans"]) == (3, [])
    assert 8 * GIB < smallest < 12 * GIB
    assert plan(*asked, "--limit", str(smallest), "--no-offload")[0] == 0
    assert plan(*asked, "--limit", str(smallest - 1), "--no-offload")[0] == 3
    length = str(changes["max_row_tokens"]["proposed"])
    assert plan(*asked[:3], length, *asked[4:], "--limit", "8GiB", "--no-offload")[0] == 0
    assert changes["may_offload"]["needed_bytes"] < 8 * GIB


def test_13b_in_8_gib_streams_its_layers_and_says_what_that_costs(plan: Plan) -> None:
    """With offload there is a plan whose layers leave the device, and it takes longer than one with room."""
    asked = ("--base", "llama-2-13b", "--max-tokens", "2048", "--device", "cuda")

    streamed = plan(*asked, "--limit", "8GiB")[1]["plans"][0]
    roomy = plan(*asked, "--limit", "80GiB")[1]["plans"][0]

    assert streamed["settings"]["frozen_home"] == "host"
    assert streamed["seconds"] > roomy["seconds"]
    assert not roomy["offloads"]


def test_plans_are_ranked_and_each_is_smaller_than_the_better_ones(plan: Plan) -> None:
    """Whoever wants more room for others sees what it costs; plans that offload come after all that do not."""
    plans = plan("--base", "llama-2-7b", "--limit", "6GiB", "--device", "cuda")[1]["plans"]

    peaks, offloads = [plan["peak_bytes"] for plan in plans], [plan["offloads"] for plan in plans]
    assert len(plans) > 2
    assert peaks == sorted(set(peaks), reverse=True)
    assert offloads == sorted(offloads)


def test_full_tuning_is_far_larger_and_the_way_out_is_another_method(plan: Plan) -> None:
    """16 bytes and more for each parameter: on a card of 24 GB the answer is an adapter."""
    code, answer = plan("--base", "llama-2-7b", "--method", "full", "--limit", "24GB", "--device", "cuda")

    assert code == 3
    assert answer["smallest_limit_bytes"] > 12 * 6.7e9
    methods = [change["proposed"] for change in answer["changes"] if change["what"] == "method"]
    assert methods == ["lora", "qlora"]


def test_pairs_take_more_than_rows(plan: Plan) -> None:
    """A preference pair is two sequences, and its reference one more pass."""
    asked = ("--base", "llama-2-7b", "--limit", "80GiB", "--device", "cuda")

    rows = plan(*asked)[1]["plans"][0]
    pairs = plan(*asked, "--objective", "preference")[1]["plans"][0]

    assert pairs["seconds"] > 2 * rows["seconds"]
    assert pairs["terms"]["frozen_weights"] == rows["terms"]["frozen_weights"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--limit", "0"), 2, "must be above 0"),
        (("--limit=-8GiB",), 2, "is not a size"),
        (("--limit", "8 bananas"), 2, "is not a size"),
        (("--limit", "1MiB"), 3, "no plan fits in 1,048,576 bytes"),
        (("--limit", "900TiB"), 2, "give at most that"),
        (("--limit", "8GiB", "--rank", "65"), 2, "1 to 64"),
        (("--limit", "8GiB", "--rank", "0"), 2, "1 to 64"),
        (("--limit", "8GiB", "--max-tokens", "4097"), 2, "at most 4,096 tokens"),
        (("--limit", "8GiB", "--batch-rows", "0"), 2, "1 to 1,024"),
        (("--limit", "8GiB", "--device", "cpu", "--compute", "fp16"), 2, "a CPU computes in bf16"),
        (("--limit", "8GiB", "--base", "no-such-base"), 4, "There is no base model"),
        (("--limit", "8GiB", "--data", "/nowhere/faq.jsonl"), 2, "not prepared"),
    ],
)
def test_bad_input_is_told_with_its_limit(
    cache: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Each names what is wrong; nothing is a traceback."""
    base = () if "--base" in arguments else ("--base", "llama-2-7b")

    assert _run("plan", *base, *arguments, "--cache", str(cache)) == code

    told = " ".join(capfd.readouterr().err.split())
    assert words in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "and not both"),
        (("--base", "llama-2-7b", "--config", "/some/folder"), "and not both"),
        (("--config", "/some/folder", "--data", "faq.jsonl"), "needs --base"),
    ],
)
def test_a_plan_is_for_one_base(plan: Plan, arguments: tuple[str, ...], words: str) -> None:
    """Known by its name or by its config, and measured with its own tokenizer alone."""
    code, answer = plan(*arguments, "--limit", "8GiB")

    assert code == 2
    assert words in answer["error"]["message"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "mamba"}, "known are"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "mixture-of-experts"),
        ({"model_type": "llama", "hidden_size": 0}, "a positive integer is needed"),
    ],
)
def test_architectures_that_cannot_be_planned_are_refused(
    tmp_path: Path, plan: Plan, config: dict[str, object], words: str
) -> None:
    """The message names the key and what would be understood."""
    (tmp_path / "config.json").write_text(json.dumps(config))

    code, answer = plan("--config", str(tmp_path), "--limit", "8GiB")

    assert code == 2
    assert words in answer["error"]["message"]


@pytest.mark.parametrize("text", ["8GiB", "8 GiB", "8g", "8589934592", "8gib", "8192MiB"])
def test_sizes_are_read_as_people_write_them(plan: Plan, text: str) -> None:
    """And shown in bytes."""
    assert plan("--base", "llama-2-7b", "--limit", text, "--device", "cuda")[1]["limit_bytes"] == 8 * GIB


def test_the_picture_is_drawn_and_the_table_names_every_term(
    cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a person sees: terms in bytes, how fast, and a PNG."""
    picture = tmp_path / "plan.png"

    code = _run("plan", "--base", "llama-2-7b", "--limit", "8GiB", "--plot", str(picture), "--cache", str(cache))

    told = capfd.readouterr().out
    assert code == 0
    assert "8,589,934,592 bytes" in told
    assert all(word in told for word in ("frozen weights", "checkpoints", "Plans that fit", "Peak of each phase"))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_told(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder that is not there."""
    where = ("--plot", "/no/such/folder/plan.png")

    assert _run("plan", "--base", "llama-2-7b", "--limit", "8GiB", *where, "--cache", str(cache)) == 2

    assert "cannot be written" in capfd.readouterr().err


def test_a_card_without_bf16_is_planned_for_in_fp16(plan: Plan) -> None:
    """Where it is not this machine's, which says so itself, it is asked for; each plan has it in its settings and in words."""
    asked = ("--base", "llama-2-7b", "--limit", "14GiB", "--max-tokens", "2048", "--device", "cuda")

    recent, older = (plan(*asked, *compute)[1]["plans"] for compute in ((), ("--compute", "fp16")))

    assert {each["settings"]["compute"] for each in recent} == {"bf16"}
    assert {each["settings"]["compute"] for each in older} == {"fp16"}
    assert all("computed in fp16 with a scaled loss" in each["summary"] for each in older)
    assert all("computed in fp16 with a scaled loss" in rung["summary"] for rung in older[0]["rungs"])


def test_seconds_are_those_of_this_machine_or_said_to_be_assumed(plan: Plan) -> None:
    """What was measured here is used for this machine's device; another device is assumed and says so."""
    asked = ("--base", "llama-2-7b", "--limit", "8GiB")

    here, there = (plan(*asked, *device)[1]["speed"] for device in ((), ("--device", "cuda")))

    assert (here["is_measured"], here["product_flops"]) == (True, MEASURED_FLOPS)
    assert not there["is_measured"]
    assert "assumed" in there["device"]


def test_rows_of_a_file_are_measured(plan: Plan, cache: Path, tmp_path: Path) -> None:
    """Their lengths, not the longest allowed, make the plan; one that is too long is refused and told, never clipped."""
    write_base(cache)
    data = tmp_path / "faq.jsonl"
    data.write_text("\n".join(json.dumps({"question": f"Where is {door}?", "answer": "Left."}) for door in range(20)))
    asked = ("--base", NAME, "--limit", "2GiB", "--data", str(data))

    code, measured = plan(*asked)
    long_code, refused = plan(*asked, "--max-tokens", "20")

    rows = measured["rows"]
    # Twenty questions, each with three wordings that are made of it.
    assert (code, rows["trained"], rows["held_out"], rows["steps"]) == (0, 80, 4, 10)
    assert 20 < rows["longest_tokens"] < 100
    assert long_code == 2
    assert "rows are never clipped" in refused["error"]["message"]


def test_data_that_cannot_be_trained_on_is_refused_by_line(plan: Plan, cache: Path, tmp_path: Path) -> None:
    """The line and what is wrong with it, never its content."""
    write_base(cache)
    data = tmp_path / "faq.jsonl"
    data.write_text('{"question": "Where?", "answer": "Here."}\n{"question": "secret"}\n')

    code, refused = plan("--base", NAME, "--limit", "2GiB", "--data", str(data))

    assert code == 2
    assert "line 2" in refused["error"]["message"]
    assert "secret" not in refused["error"]["message"]
