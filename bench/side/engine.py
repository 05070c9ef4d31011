"""The program of one engine: answers what it reads, a line of JSON each, and tells times and tokens."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from bench.lora_case import NUM_ADAPTERS, RANK
from serve_svc.engine.cpu_lora.enabling import ENABLING_VARIABLE
from serve_svc.engine.engine import EngineAdapter, EngineSettings
from serve_svc.engine.factory import build_vllm_engine, set_environment

_MAX_TOKENS = 2048
_KV_CACHE_BYTES = 1 << 29


class Side(Enum):
    """Which engine: vLLM without LoRA, vLLM with it, or the product's."""

    BASE = "base"
    BARE = "bare"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Size:
    """Requests in an engine at once, and tokens of one step: vLLM's own default."""

    max_sequences: int = NUM_ADAPTERS
    max_step_tokens: int = 2048


@dataclass(frozen=True, slots=True)
class Asked:
    """One stream of a run."""

    prompt: list[int]
    adapter: int | None


@dataclass(frozen=True, slots=True)
class Run:
    """Streams that start together; `salt` keeps what an earlier run has read from being found in the prefix cache."""

    streams: list[Asked]
    output_tokens: int
    salt: str
    num_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Its tokens, seconds to the first of them, and where asked for, by how much the first was likelier than the next best."""

    tokens: list[int]
    ttft_s: float
    gap: float | None


@dataclass(frozen=True, slots=True)
class RunResult:
    """The answers in the order of the streams, and seconds from the start to the last token."""

    answers: list[Answer]
    seconds: float


def main() -> int:
    """Serve one side until standard input ends; return 0."""
    side, max_sequences, max_step_tokens, weights_dir, *adapters = sys.argv[1:]
    size = Size(int(max_sequences), int(max_step_tokens))
    asyncio.run(_serve(Side(side), size, Path(weights_dir), [Path(adapter) for adapter in adapters]))
    return 0


async def _serve(side: Side, size: Size, weights_dir: Path, adapters: list[Path]) -> None:
    async with _engine(side, size, weights_dir, adapters) as engine:
        print(json.dumps({"adapter_path": engine.adapter_path}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            told = json.loads(line)
            run = Run(**{**told, "streams": [Asked(**asked) for asked in told["streams"]]})
            print(json.dumps(asdict(await engine.answer(run))), flush=True)


@asynccontextmanager
async def _engine(side: Side, size: Size, weights_dir: Path, adapters: list[Path]) -> AsyncIterator["_Engine"]:
    set_environment()
    if side is Side.OURS:
        settings = EngineSettings(
            max_loras=NUM_ADAPTERS,
            max_cpu_loras=NUM_ADAPTERS,
            max_lora_rank=RANK,
            max_model_tokens=_MAX_TOKENS,
            max_sequences=size.max_sequences,
            max_step_tokens=size.max_step_tokens,
            kv_cache_bytes=_KV_CACHE_BYTES,
            gpu_memory_fraction=0.9,
        )
        guarded = await build_vllm_engine(weights_dir, "base", settings)
        await guarded.start()
        for number, path in enumerate(adapters):
            await guarded.load_adapter(EngineAdapter(number + 1, path.name, path))
        try:
            # Below the service's rules: answers of equal length are nothing it ever asks for.
            backend: Any = guarded._backend  # noqa: SLF001
            yield _Engine(backend._llm, adapters, backend.adapter_path)  # noqa: SLF001
        finally:
            await guarded.stop()
    else:
        os.environ.pop(ENABLING_VARIABLE)
        llm = await asyncio.to_thread(_build_plain, weights_dir, size, has_lora=side is Side.BARE)
        try:
            yield _Engine(llm, adapters, "vllm" if side is Side.BARE else "none")
        finally:
            llm.shutdown()


def _build_plain(weights_dir: Path, size: Size, *, has_lora: bool) -> Any:  # noqa: ANN401 - vLLM has no types here
    """Build vLLM as the product does, but without what this measures: its LoRA path, and the layers left out of it."""
    from vllm import AsyncEngineArgs  # noqa: PLC0415 - vLLM reads the environment when imported
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    lora = {"enable_lora": True, "max_loras": NUM_ADAPTERS, "max_cpu_loras": NUM_ADAPTERS, "max_lora_rank": RANK}
    arguments = AsyncEngineArgs(
        model=str(weights_dir),
        dtype="bfloat16",
        max_model_len=_MAX_TOKENS,
        max_num_seqs=size.max_sequences,
        max_num_batched_tokens=size.max_step_tokens,
        enforce_eager=True,
        enable_prefix_caching=True,
        kv_cache_memory_bytes=_KV_CACHE_BYTES,
        **(lora if has_lora else {}),
    )
    return AsyncLLM.from_engine_args(arguments)


class _Engine:
    """An engine with its adapters; `adapter_path` is what computes them."""

    def __init__(self, llm: Any, adapters: list[Path], adapter_path: str) -> None:  # noqa: ANN401 - vLLM has no types here
        self._llm = llm
        self._adapters = adapters
        self.adapter_path = adapter_path

    async def answer(self, run: Run) -> RunResult:
        """Answer all streams at once."""
        began = time.perf_counter()
        asked = (self._stream(run, number) for number in range(len(run.streams)))
        answers = await asyncio.gather(*asked)
        return RunResult(list(answers), time.perf_counter() - began)

    async def _stream(self, run: Run, number: int) -> Answer:
        from vllm import SamplingParams  # noqa: PLC0415 - vLLM reads the environment when imported
        from vllm.inputs.engine import tokens_input  # noqa: PLC0415
        from vllm.lora.request import LoRARequest  # noqa: PLC0415

        asked = run.streams[number]
        lora = None
        if asked.adapter is not None:
            path = self._adapters[asked.adapter]
            lora = LoRARequest(path.name, asked.adapter + 1, str(path))
        length = run.output_tokens
        sampling = SamplingParams(
            temperature=0.0, max_tokens=length, min_tokens=length, ignore_eos=True, logprobs=run.num_logprobs
        )
        prompt = tokens_input(list(asked.prompt), cache_salt=run.salt)
        began = time.perf_counter()
        outputs = self._llm.generate(prompt, sampling, f"{run.salt}-{number}", lora_request=lora)
        output = await anext(outputs)
        ttft_s = time.perf_counter() - began
        async for later in outputs:
            output = later
        [completion] = output.outputs
        return Answer(list(completion.token_ids), ttft_s, _gap(completion.logprobs) if run.num_logprobs else None)


def _gap(logprobs: Any) -> float:  # noqa: ANN401 - vLLM has no types here
    """Return by how much the first token was likelier than the next best, in nats."""
    best, second = sorted((entry.logprob for entry in logprobs[0].values()), reverse=True)[:2]
    return float(best - second)


if __name__ == "__main__":
    sys.exit(main())
