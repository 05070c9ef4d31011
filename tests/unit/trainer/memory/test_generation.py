"""The room for answers: what a step's tape has, and what the plan counts where that is too small."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.memory.estimator import count_spare
from trainer_svc.memory.generation import (
    MAX_NEW_TOKENS,
    count_cache_row,
    count_excess,
    limit_new_tokens,
    plan_sizes,
)
from trainer_svc.memory.layout import BF16
from trainer_svc.memory.pricing import Pricing
from trainer_svc.memory.request import PlanRequest
from trainer_svc.memory.shape import ModelShape
from trainer_svc.memory.techniques import BasePrecision, DeviceKind, Home, Recompute, Techniques

SMOLLM2 = ModelShape.from_config(
    {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }
)
PLAIN = Techniques(BasePrecision.PARITY_BF16, micro_batch_rows=8)


def test_a_row_of_the_cache_has_keys_and_values_of_every_layer() -> None:
    """2 x 30 layers x 3 heads x 64 elements in bf16, for each place."""
    assert count_cache_row(SMOLLM2, 96) == 2 * 30 * 3 * 64 * BF16 * 96


def test_answers_are_a_little_longer_than_references_at_most() -> None:
    """And never longer than the cap, however long a reference is."""
    assert [limit_new_tokens(longest) for longest in (1, 40, 100_000)] == [17, 56, MAX_NEW_TOKENS]


@given(st.integers(1, 64), st.integers(1, 64))
def test_whole_packs_fill_the_cache(num_rows: int, pack_rows: int) -> None:
    """No more rows than there is room for, at least one, and never a part of a pack but where the pack is all."""
    sizes = plan_sizes(num_rows, pack_rows, 96, 32)

    assert 0 < sizes.num_rows <= num_rows
    assert sizes.num_rows % sizes.pack_rows == 0


@pytest.mark.parametrize(
    ("techniques", "takes_more"),
    [
        (PLAIN, False),
        (replace(PLAIN, recompute=Recompute.FULL), False),
        (replace(PLAIN, micro_batch_rows=1, activations_home=Home.DISK), True),
    ],
)
def test_answering_takes_more_than_a_step_only_where_the_tape_is_small(
    techniques: Techniques,
    takes_more: bool,  # noqa: FBT001 - a parameter
) -> None:
    """A tape whose records are offloaded is two layers' worth; keys and values are of all layers."""
    nodes = 64 * techniques.micro_batch_rows

    assert (count_excess(SMOLLM2, techniques, rank=16, step_nodes=nodes, longest_row=64) > 0) is takes_more


@pytest.mark.parametrize(
    "techniques",
    [
        PLAIN,
        replace(PLAIN, micro_batch_rows=1, activations_home=Home.DISK),
        replace(PLAIN, micro_batch_rows=1, activations_home=Home.DISK, moments_home=Home.DISK),
    ],
)
def test_a_plan_counts_what_judging_takes_beyond_training(techniques: Techniques) -> None:
    """Gradients and moments make way for it; the phase is larger than a step by what is missing then."""
    request = PlanRequest(1 << 30, 8, 1, [[32]] * 4, held_out=[32])
    phases = Pricing(SMOLLM2, request).estimate(techniques).phases
    excess = count_excess(SMOLLM2, techniques, rank=8, step_nodes=32, longest_row=32)
    spare = count_spare(SMOLLM2, techniques, rank=8, num_sizes=(1, 1), device=request.device)

    assert phases["evaluate"] - phases["step"] == max(0, excess - spare)


def test_a_new_size_of_kernels_costs_less_where_no_more_are_kept() -> None:
    """Then they are made in place of others, but for what stays of them for good; gradients and moments had 12 bytes a parameter."""
    freed = 12 * SMOLLM2.count_adapter(8)
    few, many = (
        count_spare(SMOLLM2, PLAIN, rank=8, num_sizes=(sizes, sizes), device=DeviceKind.CPU) for sizes in (1, 6)
    )

    assert freed - few > 2 * (freed - many) > 0
