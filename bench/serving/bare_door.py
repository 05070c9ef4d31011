"""The peer: vLLM's AsyncLLM in this process, asked as its own documentation says, with an engine of the same size.

Prompts are rendered to token ids by serve_svc's own renderer. It looks for no NaN, salts no cache and holds no queue: what serve_svc
adds for its tenants is part of what is measured. A request names its adapter, which vLLM then loads when it must.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from itertools import count

import psutil
from tokenizers import Tokenizer
from vllm import AsyncEngineArgs, SamplingParams
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from adaptory.core.base_model import PreparedBase
from adaptory.core.prompting import Message, Renderer
from bench.serving import engine_size
from bench.serving.demand import Ask
from bench.serving.our_door import sum_resident
from bench.serving.shelf import AdapterShelf


class BareDoor:
    """An AsyncLLM and the adapters on the shelf: speaker n answers by adapter n + 1 until it is swapped."""

    def __init__(self, llm: AsyncLLM, renderer: Renderer, shelf: AdapterShelf, num_speakers: int) -> None:
        self._llm = llm
        self._renderer = renderer
        self._shelf = shelf
        self._adapters = {speaker: self._name_adapter(speaker + 1) for speaker in range(num_speakers)}
        self._next_adapter = num_speakers + 1
        self._request_ids = count()

    async def ask(self, ask: Ask, on_piece: Callable[[], None]) -> int:
        """Generate as the speaker."""
        ids = self._renderer.render_prompt([Message("user", ask.question)])
        params = SamplingParams(
            max_tokens=ask.max_tokens, temperature=0, min_tokens=1, output_kind=RequestOutputKind.DELTA
        )
        num_tokens = 0
        outputs = self._llm.generate(
            tokens_input(list(ids)),
            params,
            f"{next(self._request_ids)}",
            lora_request=self._adapters.get(ask.speaker),
        )
        async with aclosing(outputs) as pieces:
            async for output in pieces:
                piece = output.outputs[0]
                num_tokens += len(piece.token_ids)
                if piece.text or piece.finish_reason:
                    on_piece()
        return num_tokens

    async def swap(self, speaker: int) -> None:
        """Load the next adapter of the shelf, and let the speaker answer by it."""
        adapter = self._name_adapter(self._next_adapter)
        self._next_adapter += 1
        await self._llm.add_lora(adapter)
        self._adapters[speaker] = adapter

    def measure_memory(self) -> int:
        """Return the resident bytes of this process, the engine and its worker."""
        return sum_resident(psutil.Process(os.getpid()))

    def _name_adapter(self, number: int) -> LoRARequest:
        return LoRARequest(f"adapter-{number}", number, str(self._shelf.find_folder(number)))


@asynccontextmanager
async def open_bare_door(
    base: PreparedBase, shelf: AdapterShelf, *, num_speakers: int, num_slots: int
) -> AsyncIterator[BareDoor]:
    """Have an engine run while the block runs."""
    is_cpu = current_platform.is_cpu()
    arguments = AsyncEngineArgs(
        model=str(base.parity_dir),
        dtype="bfloat16",
        max_model_len=engine_size.MAX_MODEL_TOKENS,
        max_num_seqs=engine_size.MAX_SEQUENCES + engine_size.KEPT_PLACES,
        max_num_batched_tokens=engine_size.MAX_STEP_TOKENS,
        enable_lora=True,
        max_loras=num_slots,
        max_cpu_loras=engine_size.MAX_CPU_LORAS,
        max_lora_rank=engine_size.MAX_LORA_RANK,
        enable_prefix_caching=True,
        enforce_eager=is_cpu,
        enable_log_requests=False,
        kv_cache_memory_bytes=engine_size.KV_CACHE_BYTES if is_cpu else None,
        gpu_memory_utilization=0.85,
    )
    llm = AsyncLLM.from_engine_args(arguments)
    renderer = Renderer(Tokenizer.from_file(str(base.tokenizer_file)), base.chat_template, base.end_of_turn)
    try:
        yield BareDoor(llm, renderer, shelf, num_speakers)
    finally:
        llm.shutdown()
