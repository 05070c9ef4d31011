"""The table of modules beside transformers' own models, for each family it claims to know."""

import warnings

import pytest

from adaptory.core.base_shape import ARCHITECTURES, BaseShape
from tests.adapters import TINY_CONFIG

with warnings.catch_warnings():
    # Torch and its friends warn about each other as they are imported; our own warnings stay errors.
    warnings.simplefilter("ignore")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_modules_are_those_of_the_real_model(family: str) -> None:
    """Every linear layer of the family's decoder, and nothing else, is listed with its (in, out) features."""
    # A head wider than hidden_size / heads tells a shape that reads head_dim from one that divides.
    config = {**TINY_CONFIG, "model_type": family, "head_dim": 24}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))

    real = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }

    assert BaseShape.from_config(config).linear_shapes() == real
