"""What computes adapters on a CPU agrees with vLLM's own operators, and is put aside where it does not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_svc.engine.cpu_lora.batch import Batch
from serve_svc.engine.cpu_lora.compiler import NotBuilt, build_kernel
from serve_svc.engine.cpu_lora.kernel import KernelProduct
from serve_svc.engine.cpu_lora.product import Factors, LayerProduct, Product
from serve_svc.engine.cpu_lora.torch_product import TorchProduct

# torch and vLLM warn about each other when they are imported, in whichever test that happens.
pytestmark = pytest.mark.filterwarnings("ignore")

NUM_SLOTS = 4
MAX_ROWS = 160


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel, built for this machine."""
    return build_kernel(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module", params=["kernel", "torch"])
def product(request: pytest.FixtureRequest) -> Product:
    """Each way to compute adapters."""
    return KernelProduct(request.getfixturevalue("library")) if request.param == "kernel" else TorchProduct()


@dataclass(frozen=True)
class Step:
    """A layer of any shape, and the slots of one step's rows."""

    max_rank: int
    num_in: int
    widths: tuple[int, ...]
    ranks: tuple[int, ...]
    slots: tuple[int, ...]
    is_prefill: bool
    seed: int


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Rows in any order, or in runs as prompts have them; ranks from 1 to the cap."""
    max_rank = draw(st.sampled_from([1, 3, 8, 16, 37]))
    row = st.integers(-1, NUM_SLOTS - 1)
    alternating = st.lists(row, min_size=1, max_size=48)
    runs = st.lists(st.tuples(row, st.integers(1, 40)), min_size=1, max_size=4).map(
        lambda runs: [slot for slot, length in runs for _ in range(length)]
    )
    return Step(
        max_rank,
        draw(st.sampled_from([32, 64, 96]) | st.integers(1, 130)),
        draw(st.lists(st.sampled_from([64, 128]) | st.integers(1, 150), min_size=1, max_size=3).map(tuple)),
        draw(st.tuples(*[st.integers(1, max_rank)] * NUM_SLOTS)),
        tuple(draw(alternating | runs)),
        draw(st.booleans()),
        draw(st.integers(0, 2**31)),
    )


@settings(max_examples=30, deadline=None)
@given(step=steps())
def test_products_agree_with_vllm(product: Product, step: Step) -> None:
    """Whatever the shapes, ranks and mix of a step, rows differ from vLLM's by rounding at most, and the base's not at all."""
    from serve_svc.engine.cpu_lora.self_test import Case, Comparison, Layer  # noqa: PLC0415 - imports vLLM

    generator = torch.Generator().manual_seed(step.seed)
    layer = Layer.filled(generator, step.max_rank, step.num_in, step.widths, NUM_SLOTS)
    comparison = Comparison(product, NUM_SLOTS, MAX_ROWS)
    case = Case("a step", step.slots, step.is_prefill)

    comparison.check(layer, case, generator)
    for slot, rank in enumerate(step.ranks):
        layer.fill(slot, rank, generator)
    comparison.check(layer, case, generator)


def test_nan_of_one_adapter_stays_in_its_own_rows(product: Product) -> None:
    """An adapter that computes NaN says so in its rows, and poisons neither another adapter's nor the base's."""
    factors = random_factors()
    factors.b[0][2] = float("nan")
    batch = Batch.from_slots(torch.tensor([2, 0, -1, 1, 2, 0]).numpy())
    y = torch.zeros(6, sum(factors.widths), dtype=torch.bfloat16)

    product.open_layer(factors).add(batch, torch.ones(6, 40, dtype=torch.bfloat16), y)

    assert y.isnan().any(dim=1).tolist() == [True, False, False, False, True, False]
    assert not y[2].any()


def test_emptied_slot_adds_nothing(product: Product) -> None:
    """A slot that vLLM has reset leaves its rows as they are."""
    factors = random_factors()
    layer = product.open_layer(factors)
    batch = Batch.from_slots(torch.tensor([1, 1, 3]).numpy())
    x, y = torch.ones(3, 40, dtype=torch.bfloat16), torch.zeros(3, sum(factors.widths), dtype=torch.bfloat16)
    layer.add(batch, x, y)
    assert y.any(dim=1).all()

    with torch.inference_mode():  # as vLLM does in the middle of a step
        for tensor in (*factors.a, *factors.b):
            tensor[1] = 0
    y.zero_()
    layer.add(batch, x, y)

    assert y.any(dim=1).tolist() == [False, False, True]


class WrongProduct:
    """Computes every adapter, but for the last slot's, which it forgets."""

    name = "wrong"

    def open_layer(self, factors: Factors) -> LayerProduct:
        """Return a layer of TorchProduct with the last slot emptied."""
        emptied = tuple(b.clone() for b in factors.b)
        for b in emptied:
            b[-1] = 0
        return TorchProduct().open_layer(Factors(factors.a, emptied, factors.widths))


def test_self_test_finds_a_wrong_product() -> None:
    """A product that is wrong for one slot only does not pass."""
    from serve_svc.engine.cpu_lora.self_test import Differs, check_product  # noqa: PLC0415 - imports vLLM

    with pytest.raises(Differs):
        check_product(WrongProduct(), max_rank=8)


def choose(monkeypatch: pytest.MonkeyPatch, products: list[tuple[str, Any]]) -> Any:
    """Return the wrapper that a worker would use, had it these products to choose from."""
    from vllm.config.lora import LoRAConfig  # noqa: PLC0415

    from serve_svc.engine.cpu_lora import choice  # noqa: PLC0415 - imports vLLM

    monkeypatch.setattr(choice, "list_products", lambda: iter(products))
    return choice.choose_wrapper(16, max_batches=4, device=torch.device("cpu"), lora_config=LoRAConfig(max_lora_rank=8))


def test_fastest_product_that_passes_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be built or is wrong is passed over, and the reason kept."""

    def fail() -> Product:
        raise NotBuilt("there is neither g++ nor clang++")

    wrapper = choose(monkeypatch, [("kernel", fail), ("torch", TorchProduct)])

    assert wrapper.product_name == "torch"
    assert wrapper.why_slower == "kernel: there is neither g++ nor clang++"


def test_vllm_computes_adapters_where_no_product_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing of ours that agrees with vLLM, its own path stays, and is named."""
    wrapper = choose(monkeypatch, [("wrong", WrongProduct)])

    assert wrapper.product_name == "vllm"
    assert "wrong: " in wrapper.why_slower


def test_kernel_is_built_once(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later engine finds what the first has built, even where the compiler has gone meanwhile; without either it says so."""
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))

    assert build_kernel(library.parent) == library
    with pytest.raises(NotBuilt, match="no-compiler"):
        build_kernel(tmp_path / "empty")
    assert not any((tmp_path / "empty").iterdir())


@pytest.fixture
def platform() -> Iterator[type]:
    """The platform class of vLLM, which knows no path of ours, even if an engine of this process had one; put back afterwards."""
    from vllm.platforms import current_platform  # noqa: PLC0415

    kind = type(current_platform)
    before = kind.__dict__["get_punica_wrapper"]
    kind.get_punica_wrapper = classmethod(lambda _: "vLLM's own")
    yield kind
    kind.get_punica_wrapper = before


def test_plugin_is_for_our_engines_alone(platform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another vLLM of this installation keeps its own path, and so does a version that was never tested."""
    from serve_svc.engine.cpu_lora import plugin  # noqa: PLC0415 - imports vLLM

    own = platform.get_punica_wrapper()

    monkeypatch.delenv("CPU_LORA_OF_ADAPTORY", raising=False)
    plugin.register()
    assert platform.get_punica_wrapper() == own
    monkeypatch.setenv("CPU_LORA_OF_ADAPTORY", "1")
    monkeypatch.setattr(plugin, "__version__", "0.33.0")
    plugin.register()
    assert platform.get_punica_wrapper() == own
    monkeypatch.setattr(plugin, "__version__", "0.32.0")
    plugin.register()
    assert platform.get_punica_wrapper() != own


def random_factors() -> Factors:
    """Return a layer of two slices with an adapter of rank 8 in each slot."""
    generator = torch.Generator().manual_seed(1)
    widths = (70, 30)
    a = tuple(torch.randn(NUM_SLOTS, 1, 8, 40, generator=generator).to(torch.bfloat16) for _ in widths)
    b = tuple(torch.randn(NUM_SLOTS, 1, width, 8, generator=generator).to(torch.bfloat16) for width in widths)
    return Factors(a, b, widths)
