"""`adaptory plan`: whether a training job fits a memory limit, how, and how long it takes; nothing is downloaded or trained."""

import enum
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from adaptory.cli.child import ask
from adaptory.cli.failure import DOES_NOT_FIT
from adaptory.cli.output import AsJson, print_json
from adaptory.cli.plan_view import draw_plans, print_plans
from adaptory.cli.sizes import parse_bytes
from adaptory.core.base_model import default_cache_root
from adaptory.core.errors import ServiceError


class Method(enum.StrEnum):
    """What is trained."""

    QLORA = "qlora"
    LORA = "lora"
    FULL = "full"


class Objective(enum.StrEnum):
    """What a row teaches."""

    SFT = "sft"
    PREFERENCE = "preference"


class Device(enum.StrEnum):
    """Where the job would run."""

    CPU = "cpu"
    CUDA = "cuda"


class Compute(enum.StrEnum):
    """What is computed in."""

    BF16 = "bf16"
    FP16 = "fp16"


Limit = Annotated[
    str, typer.Option(help="Memory the job may take, such as 8GiB, above the worker's start-up baseline.")
]


def plan(  # noqa: PLR0913 - each is an option of the command line
    base: Annotated[str, typer.Option(help="A base model of the catalogue, or one prepared here.")] = "",
    *,
    limit: Limit,
    config: Annotated[Path | None, typer.Option(help="A config.json, or its folder, in place of --base.")] = None,
    method: Annotated[Method, typer.Option(help="What is trained.")] = Method.QLORA,
    objective: Annotated[
        Objective, typer.Option(help="Rows, or pairs of a better and a worse answer.")
    ] = Objective.SFT,
    max_tokens: Annotated[int, typer.Option(help="Tokens of the longest row.")] = 2048,
    rank: Annotated[int, typer.Option(help="LoRA rank, of all linear layers.")] = 16,
    batch_rows: Annotated[int, typer.Option(help="Rows of an optimizer step, however they are cut.")] = 8,
    rows: Annotated[int, typer.Option(help="Rows trained on, all of --max-tokens; 0 is one batch.")] = 0,
    data: Annotated[Path | None, typer.Option(help="A file of questions or conversations, to be measured.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the rows.")] = 1,
    device: Annotated[Device | None, typer.Option(help="Where it would run; left out, this machine's device.")] = None,
    compute: Annotated[
        Compute | None, typer.Option(help="fp16 for a card without bf16; left out, what the device computes in.")
    ] = None,
    offload: Annotated[bool, typer.Option(help="Whether anything may leave the device.")] = True,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Run the best plan's step on tensors without memory, too.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the plans against the limit into this PNG file.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where prepared bases live; default: this user's cache folder.")
    ] = None,
    catalogue: Annotated[Path | None, typer.Option(help="A catalogue file of your own, in TOML.")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan a training job: the fastest way that fits the limit, or the smallest limit that would do."""
    question = {
        "base": base,
        "config": str(config.absolute()) if config else "",
        "limit_bytes": parse_bytes(limit, field="--limit"),
        "max_tokens": max_tokens,
        "method": method,
        "objective": objective,
        "rank": rank,
        "batch_rows": batch_rows,
        "rows": rows,
        "epochs": epochs,
        "data": str(data.absolute()) if data else "",
        "device": device,
        "compute": compute,
        "may_offload": offload,
        "simulates": simulate,
        "cache": str(cache.absolute() if cache else default_cache_root()),
        "catalogue": str(catalogue.absolute()) if catalogue else "",
    }
    answer = _ask(question, as_json=as_json)
    if plot:
        draw_plans(answer, plot)
    if as_json:
        print_json(answer)
    else:
        print_plans(answer, plot)


def _ask(question: dict[str, object], *, as_json: bool) -> dict[str, Any]:
    """Return the answer. With `as_json` a job that does not fit is an answer too: no plans, and what would help."""
    try:
        answer = ask("trainer_svc.plan", question)
    except ServiceError as error:
        if error.reason != "DOES_NOT_FIT" or not as_json:
            raise
        told = {
            "plans": [],
            "limit_bytes": question["limit_bytes"],
            "smallest_limit_bytes": int(error.metadata["smallest_limit_bytes"]),
            "changes": json.loads(error.metadata["changes"]),
            "message": error.message,
        }
        print_json(told)
        raise typer.Exit(DOES_NOT_FIT) from error
    del answer["event"]
    return answer
