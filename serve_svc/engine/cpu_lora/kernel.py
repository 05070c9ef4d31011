"""Adapters with our own kernel, `kernel.cpp`: as fast as memory gives the weights, whatever adapters a batch mixes."""

import ctypes
from pathlib import Path

import numpy as np
import torch

from serve_svc.engine.cpu_lora.batch import Batch
from serve_svc.engine.cpu_lora.compiler import NotBuilt
from serve_svc.engine.cpu_lora.product import Factors, LayerProduct
from serve_svc.engine.cpu_lora.torch_product import TorchProduct


class _Slice(ctypes.Structure):
    _fields_ = (
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("b_pairs", ctypes.c_void_p),
        ("ranks", ctypes.c_void_p),
        ("width", ctypes.c_int64),
        ("first", ctypes.c_int64),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        ("num_slices", ctypes.c_int64),
        ("rank", ctypes.c_int64),
        ("in", ctypes.c_int64),
        ("slices", ctypes.POINTER(_Slice)),
    )


class KernelProduct:
    """A Product that keeps each B a second time, in the order in which the kernel reads it."""

    name = "kernel"

    def __init__(self, library: Path) -> None:
        """Load the built kernel; raises NotBuilt when it does not load here."""
        try:
            # The kernel shares its threads with PyTorch, which brings an OpenMP of its own.
            for openmp in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
                ctypes.CDLL(str(openmp), mode=ctypes.RTLD_GLOBAL)
            loaded = ctypes.CDLL(str(library))
        except OSError as error:
            raise NotBuilt(f"the built kernel does not load: {error}") from error
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._pack_slot = loaded.pack_slot
        self._pack_slot.argtypes, self._pack_slot.restype = (pointer, number), None
        self._add_adapters = loaded.add_adapters
        self._add_adapters.argtypes = (pointer, pointer, pointer, number, pointer, number)
        self._add_adapters.restype = None

    def open_layer(self, factors: Factors) -> LayerProduct:
        """Return the layer's product; PyTorch's where changes of the factors cannot be seen."""
        if not factors.is_plain or any(tensor.is_inference() for tensor in (*factors.a, *factors.b)):
            return TorchProduct().open_layer(factors)
        return _KernelLayer(self._pack_slot, self._add_adapters, factors)


class _KernelLayer:
    def __init__(
        self, pack_slot: "ctypes._NamedFuncPointer", add_adapters: "ctypes._NamedFuncPointer", factors: Factors
    ) -> None:
        self._pack_slot = pack_slot
        self._add_adapters = add_adapters
        self._stacks = (*factors.a, *factors.b)
        num_slots, _, rank, num_in = factors.a[0].shape
        self._b_pairs = [
            torch.empty(num_slots, (rank + 1) // 2, width, 2, dtype=torch.bfloat16) for width in factors.widths
        ]
        self._ranks = np.zeros((len(factors.a), num_slots), dtype=np.int32)
        self._slices = (_Slice * len(factors.a))()
        first = 0
        for i, (a, b, width) in enumerate(zip(factors.a, factors.b, factors.widths, strict=True)):
            packed, ranks = self._b_pairs[i].data_ptr(), self._ranks[i].ctypes.data
            self._slices[i] = _Slice(a.data_ptr(), b.data_ptr(), packed, ranks, width, first)
            first += width
        self._layer = _Layer(len(factors.a), rank, num_in, self._slices)
        self._address = ctypes.addressof(self._layer)
        self._version = -1
        self._packed: set[int] = set()

    def add(self, batch: Batch, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add the deltas, after packing the slots that this batch uses and that may have changed."""
        # PyTorch counts the changes of every tensor; the counts only grow, so their sum tells whether there was any.
        version = sum([stack._version for stack in self._stacks])  # noqa: SLF001 - PyTorch's name for it
        if version != self._version:
            self._version = version
            self._packed.clear()
        if not self._packed.issuperset(batch.slot_set):
            for slot in batch.slot_set - self._packed:
                self._pack_slot(self._address, slot)
            self._packed |= batch.slot_set
        self._add_adapters(self._address, batch.address, x.data_ptr(), x.stride(0), y.data_ptr(), y.stride(0))
