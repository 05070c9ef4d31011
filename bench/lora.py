"""How near adapters come to the base's speed on the CPU: `python -m bench.lora [--rounds N] [--output-tokens N] [--only TEXT]`.

Three engines stand side by side, each in a process of its own: vLLM without LoRA (base), vLLM with its own LoRA path (bare), and
the product's (ours). Each scenario is asked of them in turn: the same prompts, greedily, answers of equal length. Ratios are
taken within a round, whose sides met the machine in the same minute, and their median counts. Answers of bare and ours are
compared token for token; where they part, bare vLLM is asked how far its two best tokens were from each other. Where any part,
bare vLLM is compared with itself as well: all streams together with each of them alone, which changes nothing but the rounding.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from adaptory.core.base_model import default_cache_root, find_base
from adaptory.core.base_shape import BaseShape
from bench.lora_case import BASE, TEXT, Scenario, cut_prompts, list_scenarios, write_adapters
from bench.lora_report import Parting, Row, print_table
from bench.machine import describe_machine
from bench.side.engine import Answer, Asked, Run, RunResult, Side
from bench.side.process import SideProcess
from bench.side.rounds import Round, Rounds


def main() -> int:
    """Measure and print; return 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.lora", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times that each side answers each scenario (default 3)")
    parser.add_argument("--output-tokens", type=int, default=32, help="tokens of each answer (default 32)")
    parser.add_argument("--only", default="", help="only scenarios whose name has this in it")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    arguments = parser.parse_args()
    scenarios = [scenario for scenario in list_scenarios() if arguments.only in scenario.name]
    if not scenarios or arguments.rounds < 1 or arguments.output_tokens < 1:
        parser.error(f"nothing to measure; scenarios are {'; '.join(scenario.name for scenario in list_scenarios())}")
    with ExitStack() as resources:
        bench = Bench(resources, arguments.output_tokens)
        rows = [bench.measure(scenario, arguments.rounds) for scenario in scenarios]
    if arguments.json:
        told = {"machine": asdict(describe_machine()), "adapter_path": bench.adapter_path}
        print(json.dumps({**told, "scenarios": [row.as_json() for row in rows]}))
    else:
        print_table(rows, f"LoRA on {describe_machine()}, adapters by {bench.adapter_path}")
    return 0


class Bench:
    """The three engines and what they are asked."""

    def __init__(self, resources: ExitStack, output_tokens: int) -> None:
        """Write the adapters and start the engines; `resources` ends them."""
        base = find_base(BASE, default_cache_root())
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="adaptory-lora-")))
        adapters = write_adapters(folder, BaseShape.from_folder(base.parity_dir))
        text = TEXT.read_text(encoding="utf-8")
        self._tokenizer_file, self._text, self._output_tokens = base.tokenizer_file, text, output_tokens
        # They come up side by side; each then waits for its turn.
        self._sides = {side: resources.enter_context(SideProcess(side, base.parity_dir, adapters)) for side in Side}
        for process in self._sides.values():
            process.await_ready()
        self._num_runs = 0

    @property
    def adapter_path(self) -> str:
        """What computed our side's adapters."""
        return self._sides[Side.OURS].adapter_path

    def measure(self, scenario: Scenario, num_rounds: int) -> Row:
        """Ask the sides in turn, after a round that is not counted."""
        prompts = cut_prompts(self._tokenizer_file, self._text, scenario.prompt_tokens)
        streams = [Asked(prompts[number], scenario.adapter_of(number)) for number in range(scenario.num_streams)]
        rounds: dict[Side, list[Round]] = {side: [] for side in Side}
        answers: dict[Side, list[Answer]] = {}
        for number in range(num_rounds + 1):
            for side in Side:
                result = self._ask(side, streams)
                answers[side] = result.answers
                if number:
                    rounds[side].append(Round.from_result(result))
        partings = self._compare(streams, answers[Side.BARE], answers[Side.OURS])
        alone = self._compare_alone(streams, answers[Side.BARE]) if any(partings) else []
        base, bare, ours = (Rounds(tuple(rounds[side])) for side in (Side.BASE, Side.BARE, Side.OURS))
        row = Row(scenario.name, base, bare, ours, partings, alone)
        print(row.sentence(), file=sys.stderr, flush=True)
        return row

    def _ask(
        self, side: Side, streams: list[Asked], output_tokens: int = 0, num_logprobs: int | None = None
    ) -> RunResult:
        self._num_runs += 1
        # The side without LoRA answers as the base.
        asked = [replace(stream, adapter=None) for stream in streams] if side is Side.BASE else streams
        run = Run(asked, output_tokens or self._output_tokens, f"run-{self._num_runs}", num_logprobs)
        return self._sides[side].answer(run)

    def _compare_alone(self, streams: list[Asked], together: list[Answer]) -> list[Parting | None]:
        if len(streams) == 1:
            return []
        alone = [self._ask(Side.BARE, [stream]).answers[0] for stream in streams]
        return self._compare(streams, together, alone)

    def _compare(self, streams: list[Asked], bare: list[Answer], others: list[Answer]) -> list[Parting | None]:
        answers = zip(streams, bare, others, strict=True)
        return [self._find_parting(stream, one.tokens, other.tokens) for stream, one, other in answers]

    def _find_parting(self, stream: Asked, bare: list[int], others: list[int]) -> Parting | None:
        if bare == others:
            return None
        place = next(at for at, (one, other) in enumerate(zip(bare, others, strict=True)) if one != other)
        reached = replace(stream, prompt=stream.prompt + bare[:place])
        [answer] = self._ask(Side.BARE, [reached], output_tokens=1, num_logprobs=2).answers
        return Parting(place, answer.gap or 0.0)


if __name__ == "__main__":
    sys.exit(main())
