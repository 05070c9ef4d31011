"""Attention within a window on a card, where FlashAttention's own operator has it, beside the plain kernel. Skipped elsewhere."""

import warnings

import pytest

with warnings.catch_warnings():
    # Torch and its friends warn about each other as they are imported; our own warnings stay errors.
    warnings.simplefilter("ignore")
    import torch

    from tests.contracts.training_stand import relative_difference
    from trainer_svc.worker.architecture import Sight
    from trainer_svc.worker.attention import FusedKernel, Heads, PlainKernel
    from trainer_svc.worker.scratch import Scratch

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("length", [40, 700])
@pytest.mark.parametrize("window", [1, 64, 512])
def test_a_window_is_the_same_in_both_kernels(length: int, window: int) -> None:
    """Values and gradients agree, for rows shorter and longer than the window."""
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device on this machine")

    device, sight = torch.device("cuda"), Sight(0.07, window)
    torch.manual_seed(0)
    sizes = ((2, 4, length, 256), (2, length, 256), (2, length, 256))
    heads = Heads(*(torch.randn(size, device=device, dtype=torch.bfloat16) for size in sizes))
    grad, results = torch.randn(sizes[0], device=device, dtype=torch.bfloat16), []
    with torch.no_grad():
        for kernel in (PlainKernel(sight), FusedKernel(sight)):
            scratch, grads = Scratch(1 << 28, device), Heads(*map(torch.empty_like, (heads.q, heads.k, heads.v)))
            attended = torch.empty_like(heads.q)
            kernel.attend(heads, scratch, attended)
            kernel.differentiate(heads, grad, scratch, grads)
            results.append((attended, grads.q, grads.k, grads.v))

    for one, other in zip(*results, strict=True):
        assert relative_difference(one.float(), other.float()) < 0.02
