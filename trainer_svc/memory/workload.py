"""The packs a job's rows become when batches are cut into micro-batches of one size.

Owns what is known of packs before any is made: the sizes that decide the peak, and the sums that decide the time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trainer_svc.memory.generation import MAX_GENERAL_ROWS, MAX_GENERAL_TOKENS, MAX_JUDGED
from trainer_svc.memory.held_out import choose_measured
from trainer_svc.memory.layout import SIZE_MULTIPLE, WIDTH_MULTIPLE, PackSize, count_sizes, round_size
from trainer_svc.memory.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Work:
    """What is computed: packs, their nodes, and the pairs of places that attention looks at, each summed over all packs."""

    num_packs: int
    nodes: int
    attended: int


@dataclass(frozen=True, slots=True)
class Workload:
    """The micro-batches of a job: the largest of them, of how many sizes they are, and the work in training and in judging.

    `measured` is the work of one measurement of the loss on held-out rows while the job trains.

    `num_sizes` are what `layout.count_sizes` counts. `longest_judged` are the input tokens of the longest row that is judged on, and
    `num_answered` how many prompts are answered.
    """

    largest: tuple[PackSize, ...]
    num_sizes: tuple[int, int]
    num_steps: int
    trained: Work
    judged: Work
    measured: Work
    longest_judged: int = 0
    num_answered: int = 0


def cut_workload(request: PlanRequest, micro_batch_rows: int) -> Workload:
    """Cut a job's rows into micro-batches of so many rows."""
    trained = [pack for batch in request.batches for pack in _cut(batch, request, micro_batch_rows)]
    judged = list(_cut(request.held_out, request, micro_batch_rows))
    # Chosen rows lie in other packs than all rows do.
    measured = list(_cut(choose_measured(request.held_out), request, micro_batch_rows))
    longest = max((*request.held_out, *request.asked), default=0)
    if longest:
        # Rows of general text are judged one by one, and as long as the longest one held out.
        judged += [measure_lengths([min(longest, MAX_GENERAL_TOKENS)], 0)] * MAX_GENERAL_ROWS
    return Workload(
        largest=_find_largest({*trained, *judged, *measured}),
        num_sizes=count_sizes((*trained, *judged, *measured)),
        num_steps=len(request.batches),
        trained=_sum_up(trained),
        judged=_sum_up(judged),
        measured=_sum_up(measured),
        longest_judged=longest,
        # A row of a conversation asks more than once; how often is not known to a plan.
        num_answered=min(len(request.held_out) + len(request.asked), MAX_JUDGED),
    )


def find_largest(request: PlanRequest, micro_batch_rows: int) -> Sequence[int]:
    """Return the lengths of the micro-batch with the most nodes, and of these with the most places."""
    sequences = micro_batch_rows * request.row_sequences
    cuts = (
        batch[begin : begin + sequences]
        for batch in (*request.batches, request.held_out, choose_measured(request.held_out))
        for begin in range(0, len(batch), sequences)
    )
    return max(cuts, key=lambda lengths: _sizes(measure_lengths(lengths, request.shared_tokens)))


def _cut(lengths: Sequence[int], request: PlanRequest, micro_batch_rows: int) -> Iterator[PackSize]:
    sequences = micro_batch_rows * request.row_sequences
    for begin in range(0, len(lengths), sequences):
        yield measure_lengths(lengths[begin : begin + sequences], request.shared_tokens)


def measure_lengths(lengths: Sequence[int], shared_tokens: int) -> PackSize:
    """Return the pack of rows of these lengths; nearly all of their tokens may be learned."""
    copies = shared_tokens * (len(lengths) - 1)
    nodes, width = sum(lengths) - copies, max(lengths)
    return PackSize(
        nodes=round_size(nodes),
        rows=len(lengths),
        width=_round_up(width, WIDTH_MULTIPLE) if len(lengths) > 1 else round_size(nodes),
        learned=_round_up(nodes, SIZE_MULTIPLE),
        copies=copies,
    )


def _find_largest(packs: Iterable[PackSize]) -> tuple[PackSize, ...]:
    """Return the packs that no other is at least as large as in everything: one of them has the peak, whatever the techniques."""
    largest: list[PackSize] = []
    for pack in sorted(packs, key=_sizes, reverse=True):
        if not any(all(a >= b for a, b in zip(_sizes(other), _sizes(pack), strict=True)) for other in largest):
            largest.append(pack)
    return tuple(largest)


def _sizes(pack: PackSize) -> tuple[int, ...]:
    return (pack.nodes, pack.places, pack.width, pack.rows, pack.learned, pack.copies)


def _sum_up(packs: Sequence[PackSize]) -> Work:
    return Work(
        num_packs=len(packs),
        nodes=sum(pack.nodes for pack in packs),
        attended=sum(pack.places * pack.width for pack in packs),
    )


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
