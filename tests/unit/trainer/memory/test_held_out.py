"""When the loss on held-out rows is measured, on which rows, and what that adds to a plan."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.batches import count_steps
from trainer_svc.memory.duration import predict_seconds
from trainer_svc.memory.held_out import MAX_MEASURED, choose_measured, list_measured_steps
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import BasePrecision, Techniques
from trainer_svc.memory.workload import cut_workload

TINY = ModelShape.from_config(
    {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 512,
        "max_position_embeddings": 512,
    }
)


@given(st.integers(1, 200), st.integers(1, 16), st.integers(1, 9), st.none() | st.integers(1, 300))
def test_each_epoch_ends_with_a_measurement_and_so_does_the_job(
    num_rows: int, batch_rows: int, epochs: int, max_steps: int | None
) -> None:
    """Once for each epoch that is run, whole or cut short, and never beyond the last step."""
    settings = TrainingSettings(batch_rows=batch_rows, epochs=epochs, max_steps=max_steps)
    steps, num_steps = list_measured_steps(num_rows, settings), count_steps(num_rows, settings)
    epoch_steps = count_steps(num_rows, replace(settings, epochs=1, max_steps=None))

    assert steps[-1] == num_steps
    assert len(steps) == -(-num_steps // epoch_steps)
    assert all(step % epoch_steps == 0 for step in steps[:-1])


@given(st.integers(0, 1000))
def test_rows_are_chosen_evenly_and_no_more_than_so_many(num_rows: int) -> None:
    """All where they are few; else as many as may be, in their order, no two neighbours much farther apart than others."""
    chosen = choose_measured(range(num_rows))
    gaps = {later - earlier for earlier, later in pairwise(chosen)}

    assert len(chosen) == min(num_rows, MAX_MEASURED)
    assert not gaps or (min(gaps) > 0 and max(gaps) - min(gaps) <= 1)


def test_packs_of_the_chosen_rows_are_planned_for() -> None:
    """Long rows that lie apart come together when some are chosen: their pack is larger than any of those that are judged."""
    held_out = [400 if place % 4 == 0 else 20 for place in range(4 * MAX_MEASURED)]
    request = PlanRequest(1 << 30, 8, 4, [[20] * 4] * 2, held_out)
    workload = cut_workload(request, 4)

    assert max(pack.nodes for pack in workload.largest) == 4 * 400
    assert workload.measured.num_packs == MAX_MEASURED // 4


def test_rows_that_are_asked_alone_are_answered_and_not_measured() -> None:
    """A plan has room for the longest of them, and the time of their answers, and no pack for their losses."""
    measured = PlanRequest(1 << 30, 8, 4, [[20] * 4] * 2, [24] * 8)
    without, with_asked = (cut_workload(request, 4) for request in (measured, replace(measured, asked=[40] * 3)))

    assert with_asked.measured == without.measured
    assert (without.longest_judged, with_asked.longest_judged) == (24, 40)
    assert (without.num_answered, with_asked.num_answered) == (8, 11)


def test_measuring_is_part_of_the_expected_time() -> None:
    """Each measurement takes as long as the one before."""
    request = PlanRequest(1 << 30, 8, 4, [[64] * 4] * 8, [64] * 16)
    techniques = Techniques(BasePrecision.PARITY_BF16, micro_batch_rows=4)
    none, one, two = (
        predict_seconds(TINY, techniques, cut_workload(request, 4), replace(request, num_measurements=number))
        for number in (0, 1, 2)
    )

    assert none < one
    assert two - one > 0.99 * (one - none)
