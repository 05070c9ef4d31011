"""AsyncLLM in this process: calls vLLM, as raw as `backend.py` says, and turns its exceptions into ours.

What is asked and said is `vllm_values.py`'s. Importing either takes seconds and must follow `factory.py`'s setting of the
environment.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import structlog
from vllm import AsyncEngineArgs
from vllm.config import StructuredOutputsConfig
from vllm.exceptions import GracefulHTTPError, VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from adaptory.core.base_shape import LINEAR_MODULES, BaseShape
from adaptory.core.errors import Busy, InvalidRequest
from serve_svc.engine.backend import OutputCorrupted
from serve_svc.engine.engine import (
    AdapterLoadFailed,
    EngineAdapter,
    EngineChunk,
    EngineDead,
    EngineRequest,
    EngineSettings,
    SchemaImpossible,
)
from serve_svc.engine.grammar import write_grammar
from serve_svc.engine.metrics import count_corrupted_requests
from serve_svc.engine.null_adapter import NULL_ADAPTER_ID, write_null_adapter
from serve_svc.engine.vllm_values import engine_dead, read_chunk, write_sampling, write_trial
from serve_svc.engine.worker_extension import OWN_PATH, ServingWorker

# A signal to all our processes (Ctrl-C, systemd) reaches the engine as well: it must outlive the drain of the service above.
_SIGNAL_DRAIN_S = 60
_STOP_TIMEOUT_S = 5.0
# An adapter of 10 MB is read in 20 to 40 ms. Whoever asks a worker waits for its step, and on a CPU takes a core meanwhile.
_READING_POLL_S = 0.05
# The costliest schema that the registry takes compiled in 17 s on two busy cores.
_COMPILE_TIMEOUT_S = 120.0
_MAX_LOGPROBS = 5

_log = structlog.get_logger(__name__)


class VllmBackend:
    """An EngineBackend over one AsyncLLM, whose engine runs in a process of its own."""

    def __init__(self, base_dir: Path, base_name: str, settings: EngineSettings) -> None:
        """Remember what to build; nothing is started before `start`. `base_name` labels vLLM's metrics."""
        self._base_dir = base_dir
        self._base_name = base_name
        self._settings = settings
        self._llm: AsyncLLM | None = None
        self._processes: list[psutil.Process] = []
        # vLLM's own path on the CPU gives a request without an adapter the weights of the last slot whenever another request of
        # the batch has one (vllm PRs 48421 and 49656). So there the bare base is served through an adapter of zeros.
        self._null_adapter: EngineAdapter | None = None
        self.adapter_path = OWN_PATH  # what computes adapters; known once the engine has come up
        self._resources = ExitStack()

    async def start(self) -> None:
        """Build the engine in a thread, since it takes seconds."""
        try:
            self._llm = await asyncio.to_thread(self._build)
            self._processes = _engine_processes(self._llm)
        except Exception as err:  # vLLM promises no type: a bad folder, too little memory, a killed child all end here
            raise EngineDead("The engine could not be built; its log says why.", retry_after_s=30.0) from err
        # Built outside the event loop, it starts to listen to its process on the first call made inside.
        await self._call(self._running().collective_rpc, ServingWorker.leave_signals_to_the_engine.__name__)
        if current_platform.is_cpu():
            await self._take_adapter_path()

    async def stop(self) -> None:
        """Kill the engine process and everything it started; its streams end with EngineDead."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        # vLLM's own shutdown may cancel the task that would tell the streams.
        llm.output_processor.propagate_error(EngineDeadError())
        await asyncio.to_thread(_shut_down, llm, self._processes)
        self._resources.close()

    async def add_lora(self, adapter: EngineAdapter) -> bool:
        """Load and activate the adapter; vLLM answers True as well when it knows the id."""
        try:
            is_added = await self._load_beside_steps(adapter)
        except EngineDeadError as err:
            raise engine_dead() from err
        except Exception as err:  # the engine process sends back the text of its exception, not the type
            raise _load_failed(adapter) from err
        if not is_added:
            raise _load_failed(adapter)
        return True

    async def remove_lora(self, engine_id: int) -> bool:
        """Forget the id, whatever uses it."""
        return bool(await self._call(self._running().remove_lora, engine_id))

    async def list_loras(self) -> set[int]:
        """Return the registered ids."""
        return set(await self._call(self._running().list_loras)) - {NULL_ADAPTER_ID}

    async def prepare_schema(self, schema: str) -> None:
        """Have the engine compile the grammar by asking for one token by it: the engine keeps what it has compiled."""
        try:
            await asyncio.to_thread(write_grammar, schema)
            async with asyncio.timeout(_COMPILE_TIMEOUT_S), aclosing(self.generate(write_trial(schema))) as chunks:
                async for _ in chunks:
                    pass
        except (RuntimeError, InvalidRequest) as err:  # xgrammar's, vLLM's
            raise SchemaImpossible("no grammar can be made of it, or nothing conforms to it") from err
        except TimeoutError as err:
            raise SchemaImpossible(f"its grammar was not compiled within {_COMPILE_TIMEOUT_S:.0f} s") from err

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """Stream the answer of a prompt given as token ids."""
        num_output_tokens = 0
        outputs = self._running().generate(
            tokens_input(list(request.prompt_ids), cache_salt=request.cache_salt),
            write_sampling(request.sampling),
            request.request_id,
            lora_request=_lora_request(adapter) if (adapter := request.adapter or self._null_adapter) else None,
        )
        async with aclosing(_with_our_errors(outputs)) as chunks:
            async for output in chunks:
                if output.metrics is not None and output.metrics.is_corrupted:
                    raise OutputCorrupted(request.adapter)
                num_output_tokens += len(output.outputs[0].token_ids)
                yield read_chunk(output, request, num_output_tokens)

    async def check_health(self) -> None:
        """Raise EngineDead when the engine process is known to be gone."""
        await self._call(self._running().check_health)

    def corrupted_requests(self) -> int:
        """Return how many finished requests held NaN."""
        return count_corrupted_requests()

    async def _load_beside_steps(self, adapter: EngineAdapter) -> bool:
        """Have the adapter read beside the steps: vLLM, which stands still while it loads one, has only a slot to fill."""
        ask_workers, named = self._running().collective_rpc, (adapter.engine_id, adapter.name, str(adapter.path))
        await ask_workers(ServingWorker.begin_loading.__name__, args=named)
        answers: list[bool | None] = [None]
        while None in answers:
            await asyncio.sleep(_READING_POLL_S)
            answers = await ask_workers(ServingWorker.finish_loading.__name__, args=named)
        return all(answers)

    async def _take_adapter_path(self) -> None:
        """Say what computes adapters in the worker, and go around vLLM's fault if that is vLLM itself."""
        [(self.adapter_path, why)] = await self._call(
            self._running().collective_rpc, ServingWorker.tell_adapter_path.__name__
        )
        if why:
            _log.warning("adapters_are_slow", path=self.adapter_path, why=why)
        if self.adapter_path == OWN_PATH:
            await self._add_null_adapter()

    async def _add_null_adapter(self) -> None:
        folder = self._resources.enter_context(TemporaryDirectory(prefix="adaptory-null-adapter-"))
        write_null_adapter(Path(folder), BaseShape.from_folder(self._base_dir))
        self._null_adapter = EngineAdapter(NULL_ADAPTER_ID, "base", Path(folder))
        await self.add_lora(self._null_adapter)

    def _build(self) -> AsyncLLM:
        settings = self._settings
        is_cpu = current_platform.is_cpu()
        # On a GPU vLLM measures what is left of its fraction; on CPU it would take half the machine.
        kv_cache_bytes = settings.kv_cache_bytes if is_cpu else None
        arguments = AsyncEngineArgs(
            model=str(self._base_dir),
            served_model_name=[self._base_name],
            dtype="bfloat16",
            max_model_len=settings.max_model_tokens,
            max_num_seqs=settings.max_sequences,
            max_num_batched_tokens=settings.max_step_tokens,
            enable_lora=True,
            max_loras=settings.max_loras + is_cpu,  # one more for the adapter of zeros, should it be needed
            max_cpu_loras=settings.max_cpu_loras + is_cpu,
            max_lora_rank=settings.max_lora_rank,
            # What no adapter may have: slots for embeddings and logits would cost memory, and on CPU time for every token.
            lora_target_modules=list(LINEAR_MODULES),
            enable_prefix_caching=True,
            enforce_eager=is_cpu,  # with LoRA vLLM does not compile on CPU anyway
            shutdown_timeout=_SIGNAL_DRAIN_S,
            worker_extension_cls=f"{ServingWorker.__module__}.{ServingWorker.__qualname__}",
            enable_log_requests=False,
            kv_cache_memory_bytes=kv_cache_bytes,
            gpu_memory_utilization=settings.gpu_memory_fraction,
            # Left to choose, vLLM falls back on libraries that leave out what they do not know of a schema.
            structured_outputs_config=StructuredOutputsConfig(backend="xgrammar"),
            max_logprobs=_MAX_LOGPROBS,
        )
        return AsyncLLM.from_engine_args(arguments)

    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise engine_dead()
        return self._llm

    async def _call(self, method: Callable[..., Any], *arguments: int | str) -> Any:  # noqa: ANN401 - vLLM's answer
        try:
            return await method(*arguments)
        except EngineDeadError as err:
            raise engine_dead() from err


def _shut_down(llm: AsyncLLM, processes: list[psutil.Process]) -> None:
    llm.shutdown(timeout=_STOP_TIMEOUT_S)
    # A worker that hangs outlives the engine process that started it, with its memory.
    for survivor in psutil.wait_procs(processes, timeout=_STOP_TIMEOUT_S)[1]:
        survivor.kill()


def _engine_processes(llm: AsyncLLM) -> list[psutil.Process]:
    engines = [psutil.Process(process.pid) for process in llm.engine_core.resources.engine_manager.processes]
    return [*engines, *(worker for engine in engines for worker in engine.children(recursive=True))]


def _lora_request(adapter: EngineAdapter) -> LoRARequest:
    return LoRARequest(adapter.name, adapter.engine_id, str(adapter.path))


async def _with_our_errors(outputs: AsyncGenerator[RequestOutput, None]) -> AsyncGenerator[RequestOutput, None]:
    """Pass vLLM's stream on, with its exceptions told in our tree; EngineGenerateError stays unexpected."""
    try:
        async with aclosing(outputs):
            async for output in outputs:
                yield output
    except EngineDeadError as err:
        raise engine_dead() from err
    except VLLMClientError as err:
        raise InvalidRequest("The engine refuses the request: its prompt or sampling is out of range.") from err
    except GracefulHTTPError as err:
        raise Busy("The engine's own queue is full; retry in 1 s.", retry_after_s=1.0) from err


def _load_failed(adapter: EngineAdapter) -> AdapterLoadFailed:
    return AdapterLoadFailed(
        f"The engine refuses {adapter.name}; its log says why. Register the adapter as a new version.",
        metadata={"adapter": adapter.name, "engine_id": adapter.engine_id},
    )
