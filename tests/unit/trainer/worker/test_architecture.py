"""What a config says of how layers compute, and the variants that no layer here has."""

import warnings

import pytest

from adaptory.core.base_shape import BaseShape
from adaptory.core.catalogue import find_entry
from adaptory.core.errors import InvalidRequest

with warnings.catch_warnings():
    # Torch and its friends warn about each other as they are imported; our own warnings stay errors.
    warnings.simplefilter("ignore")
    from transformers import AutoConfig, PretrainedConfig

    from trainer_svc.worker.architecture import FULL, SLIDING, Architecture, Sight

pytestmark = pytest.mark.filterwarnings("ignore")


def _read(**changes: object) -> PretrainedConfig:
    keys = {key: value for key, value in find_entry("gemma-3-270m").config.items() if key != "model_type"}
    return AutoConfig.for_model("gemma3_text", **{**keys, **changes})


def test_gemma_looks_at_512_tokens_in_five_layers_of_six() -> None:
    """Every sixth layer sees all; products are scaled by the query's own number, whatever the heads' size."""
    found = Architecture.of(_read(query_pre_attn_scalar=64), 256)

    assert [place for place, kind in enumerate(found.layer_types) if kind == FULL] == [5, 11, 17]
    assert found.sights == {FULL: Sight(0.125), SLIDING: Sight(0.125, 512)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_bidirectional_attention", True),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("hidden_activation", "silu"),
    ],
)
def test_a_variant_nobody_computes_is_refused_by_its_key(key: str, value: object) -> None:
    """It would train another model than is served."""
    with pytest.raises(InvalidRequest, match=rf"base\.{key}"):
        Architecture.of(_read(**{key: value}), 256)


def test_gemmas_published_configs_leave_out_that_head_and_embedding_are_one() -> None:
    """As transformers reads them, they are; for Llama the same silence means the opposite."""
    gemma = {key: value for key, value in find_entry("gemma-3-270m").config.items() if key != "tie_word_embeddings"}

    assert BaseShape.from_config(gemma).has_tied_embeddings
    assert not BaseShape.from_config({**gemma, "model_type": "llama"}).has_tied_embeddings
