"""Requests as vLLM takes them, and what it says as ours."""

import uuid
from typing import Literal

from vllm import SamplingParams
from vllm.logprobs import Logprob
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from serve_svc.engine.engine import (
    EngineChunk,
    EngineDead,
    EngineRequest,
    GeneratedToken,
    Sampling,
    SchemaImpossible,
)
from serve_svc.engine.grammar import write_grammar


def write_sampling(sampling: Sampling) -> SamplingParams:
    """Return how to sample, as vLLM takes it."""
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop=list(sampling.stop),
        stop_token_ids=list(sampling.stop_ids),
        # Who asks gets an answer: a base that is not sure ends before it begins. vLLM does not look for stop texts in what is forced.
        min_tokens=0 if sampling.stop else 1,
        output_kind=RequestOutputKind.DELTA,
        logprobs=sampling.num_logprobs,
        structured_outputs=_constraint(sampling.answer_schema),
    )


def _constraint(schema: str) -> StructuredOutputsParams | None:
    return StructuredOutputsParams(grammar=write_grammar(schema)) if schema else None


def write_trial(schema: str) -> EngineRequest:
    """Return a request whose one token the grammar of the schema must be compiled for."""
    sampling = Sampling(max_tokens=1, temperature=0.0, top_p=1.0, seed=None, stop=(), answer_schema=schema)
    return EngineRequest(f"schema-{uuid.uuid4().hex}", (1,), sampling, None, "schema")


def read_chunk(output: RequestOutput, request: EngineRequest, num_output_tokens: int) -> EngineChunk:
    """Return what came next. Raises SchemaImpossible, and EngineDead where the engine gives the answer up unasked."""
    completion = output.outputs[0]
    return EngineChunk(
        text=completion.text,
        token_ids=tuple(completion.token_ids),
        finish_reason=_finish_reason(completion.finish_reason, request.sampling),
        num_prompt_tokens=len(request.prompt_ids),
        num_output_tokens=num_output_tokens,
        tokens=_tokens(completion, request.sampling.num_logprobs),
    )


def _tokens(completion: CompletionOutput, num_logprobs: int | None) -> tuple[GeneratedToken, ...]:
    if num_logprobs is None or completion.logprobs is None:
        return ()
    return tuple(
        _told(choices[token], [other for other in choices.values() if (other.rank or 0) in range(1, num_logprobs + 1)])
        for token, choices in zip(completion.token_ids, completion.logprobs, strict=True)
    )


def _told(token: Logprob, others: list[Logprob]) -> GeneratedToken:
    ranked = sorted(others, key=lambda other: other.rank or 0)
    return GeneratedToken(token.decoded_token or "", token.logprob, tuple(_told(other, []) for other in ranked))


def _finish_reason(reason: str | None, sampling: Sampling) -> Literal["stop", "length"] | None:
    match reason:
        case None | "stop" | "length":
            return reason
        case "error" if sampling.answer_schema:
            # The one error that vLLM tells of a single request: its grammar was not compiled, or no token can go on with it.
            raise SchemaImpossible("nothing that the model can say goes on with an answer that conforms")
        case _:
            raise engine_dead()  # "abort" or "error" without our asking: the engine shuts down


def engine_dead() -> EngineDead:
    """Return what callers of an engine that is gone are told."""
    return EngineDead("The engine has died; a new one is being built, retry in 30 s.", retry_after_s=30.0)
