"""What a caller can change so that a job fits: one thing at a time, and no more than is needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from trainer_svc.memory.candidates import list_tightest
from trainer_svc.memory.pricing import Pricing
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import Method

MIN_ROW_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a request, from what was asked for to what would fit, and the smallest limit that would then do."""

    what: str
    present: int | str
    proposed: int | str
    needed_bytes: int

    def tell(self) -> str:
        """Return it as the end of a sentence that begins with `It would fit with`."""
        match self.what:
            case "may_offload":
                return "offload allowed"
            case "max_row_tokens":
                return f"rows of at most {self.proposed:,} tokens instead of {self.present:,}"
            case "memory_limit_bytes":
                return f"a limit of {self.proposed:,} bytes"
            case _:
                return f"{self.what} {self.proposed} instead of {self.present}"


def propose_changes(shape: ModelShape, request: PlanRequest) -> list[Change]:
    """Return the changes each of which makes a job fit that does not; the last is the limit itself."""
    found = [*_change_offload(shape, request), *_change_method(shape, request), *_change_numbers(shape, request)]
    smallest = find_smallest_limit(shape, request)
    return [*found, Change("memory_limit_bytes", request.limit_bytes, smallest, smallest)]


def find_smallest_limit(shape: ModelShape, request: PlanRequest) -> int:
    """Return the smallest limit of any plan for the request: rows one by one, all recomputed, offloaded what may be."""
    pricing = Pricing(shape, request)
    return min(
        pricing.estimate(techniques).peak_bytes + pricing.count_margin(techniques)
        for techniques in list_tightest(request)
    )


def _change_offload(shape: ModelShape, request: PlanRequest) -> Iterator[Change]:
    if not request.may_offload:
        yield from _try("may_offload", "no", "yes", shape, request, replace(request, may_offload=True))


def _change_method(shape: ModelShape, request: PlanRequest) -> Iterator[Change]:
    others = {Method.FULL: (Method.LORA, Method.QLORA), Method.LORA: (Method.QLORA,)}
    for method in others.get(request.method, ()):
        yield from _try("method", request.method, method, shape, request, replace(request, method=method))


def _change_numbers(shape: ModelShape, request: PlanRequest) -> Iterator[Change]:
    def with_rank(rank: int) -> PlanRequest:
        return replace(request, rank=rank)

    def with_rows(max_tokens: int) -> PlanRequest:
        batches = [[min(length, max_tokens) for length in batch] for batch in request.batches]
        held_out, asked = ([min(length, max_tokens) for length in rows] for rows in (request.held_out, request.asked))
        shared_tokens = min(request.shared_tokens, max_tokens)
        return replace(request, batches=batches, held_out=held_out, asked=asked, shared_tokens=shared_tokens)

    longest = max(length for batch in (*request.batches, request.held_out, request.asked) for length in batch)
    ranks = (
        []
        if request.method is Method.FULL
        else [request.rank >> shift for shift in range(1, request.rank.bit_length())]
    )
    rank = _find_largest(ranks, lambda rank: _fits(shape, with_rank(rank)))
    # Multiples of 16 that are shorter: enough of them to be near the longest that fits.
    lengths = list(range(longest - longest % MIN_ROW_TOKENS, 0, -MIN_ROW_TOKENS))
    length = _find_largest(lengths, lambda length: length < longest and _fits(shape, with_rows(length)))
    if rank is not None:
        yield Change("rank", request.rank, rank, find_smallest_limit(shape, with_rank(rank)))
    if length is not None:
        yield Change("max_row_tokens", longest, length, find_smallest_limit(shape, with_rows(length)))


def _try(
    what: str, present: str, proposed: str, shape: ModelShape, request: PlanRequest, changed: PlanRequest
) -> Iterator[Change]:
    needed_bytes = find_smallest_limit(shape, changed)
    if needed_bytes <= request.limit_bytes:
        yield Change(what, present, proposed, needed_bytes)


def _fits(shape: ModelShape, request: PlanRequest) -> bool:
    return find_smallest_limit(shape, request) <= request.limit_bytes


def _find_largest(falling: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """Return the first of falling numbers that fits, where all behind one that fits do too; None where none does."""
    low, high = 0, len(falling)
    while low < high:
        middle = (low + high) // 2
        if fits(falling[middle]):
            high = middle
        else:
            low = middle + 1
    return falling[low] if low < len(falling) else None
