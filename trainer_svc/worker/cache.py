"""The keys and values of what was read so far, so that each further token is computed alone.

Owns their memory and attention over it; which tokens are read when is `generation`'s. R rows of at most W places, T of them seen,
L layers, H query heads in G groups over K key heads, D elements a head; a row's tokens lie at places 0, 1, ... without gaps.
"""

from dataclasses import dataclass

import torch

from trainer_svc.memory.generation import PLACES_MULTIPLE
from trainer_svc.memory.shape import ModelShape
from trainer_svc.worker.architecture import Sight
from trainer_svc.worker.attention import Rotation, TreeAttention
from trainer_svc.worker.packing import Pack
from trainer_svc.worker.scratch import Scratch


class KeyValueCache:
    """Memory for the keys and values of some rows in all layers, taken once."""

    def __init__(
        self, shape: ModelShape, *, num_rows: int, num_places: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take 4 L R K W D bytes."""
        size = (shape.num_layers, num_rows, shape.num_kv_heads, num_places, shape.head_dim)
        self.keys = torch.empty(size, dtype=dtype, device=device)
        # Weighed by 0 where nothing was read yet, and 0 times what memory happens to hold may be NaN.
        self.values = torch.zeros(size, dtype=dtype, device=device)

    @property
    def num_rows(self) -> int:
        """Rows there is room for."""
        return self.keys.shape[1]

    @property
    def num_places(self) -> int:
        """Tokens each row has room for."""
        return self.keys.shape[3]


@dataclass(frozen=True, slots=True)
class LayerCache:
    """One layer's part of a cache: keys and values [R, K, W, D]."""

    keys: torch.Tensor
    values: torch.Tensor

    @classmethod
    def of(cls, cache: KeyValueCache, layer: int, rows: slice) -> "LayerCache":
        """Return a layer's part for some of the rows."""
        return cls(cache.keys[layer, rows], cache.values[layer, rows])


@dataclass(frozen=True, slots=True)
class PromptPlaces:
    """Where the nodes of a pack of prompts stand in one layer, whose keys and values are kept on the way."""

    attention: "FillingAttention"
    rotation: Rotation


@dataclass(frozen=True, slots=True)
class TokenPlaces:
    """Where one new token of every row stands in one layer."""

    attention: "CachedAttention"
    rotation: Rotation


class FillingAttention:
    """Attention of a pack of prompts in one layer: as in training, and its keys and values go to the cache."""

    def __init__(self, tree: TreeAttention, pack: Pack, cache: LayerCache) -> None:
        """Join the pack's own attention with the rows of the cache it fills; row r of the pack is row r of `cache`."""
        self._tree = tree
        self._paths = pack.paths[:, : cache.keys.shape[2]]
        self._cache = cache

    def attend(self, heads: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> None:
        """Write what the heads [N, H + 2K, D] attend to, to `out`; behind a row's end the cache gets what nothing looks at."""
        self._tree.attend(heads, scratch, out)
        num_rows, length = self._paths.shape
        num_kept = 2 * self._cache.keys.shape[1]
        with scratch.frame():
            kept = scratch.take(heads.shape[0], num_kept, heads.shape[2]).copy_(heads[:, -num_kept:])
            gathered = scratch.take(num_rows * length, num_kept, heads.shape[2])
            torch.index_select(kept, 0, self._paths.flatten(), out=gathered)
            key, value = gathered.view(num_rows, length, num_kept, -1).transpose(1, 2).chunk(2, 1)
            self._cache.keys[:, :, :length] = key
            self._cache.values[:, :, :length] = value


@dataclass(frozen=True, slots=True)
class Seen:
    """How far every row was read when a step begins: `lengths` [R]; `unseen` [R, 1, T] is true for what its new token does not see.

    Products are scaled by `scale`.
    """

    lengths: torch.Tensor
    unseen: torch.Tensor
    scale: float

    @classmethod
    def build(cls, lengths: torch.Tensor, num_places: int, sight: Sight) -> "Seen":
        """Look at as many places as the longest row has with its new token, rounded up, so that few sizes are met."""
        longest = int(lengths.max()) + 1
        num_looked = min(num_places, -(-longest // PLACES_MULTIPLE) * PLACES_MULTIPLE)
        places = torch.arange(num_looked, device=lengths.device)
        unseen = places > lengths[:, None]
        if sight.window is not None:
            unseen |= places <= lengths[:, None] - sight.window
        return cls(lengths, unseen[:, None], sight.scale)


class CachedAttention:
    """Attention of one new token of each row over what the cache holds of that row."""

    def __init__(self, cache: LayerCache, seen: Seen) -> None:
        """Look at one layer's cache; the new token of row r goes to place `lengths[r]`."""
        self._cache = cache
        self._seen = seen

    def attend(self, heads: torch.Tensor, scratch: Scratch, out: torch.Tensor) -> None:
        """Keep the keys and values of the heads [R, H + 2K, D] and write what their queries attend to, [R, H * D], to `out`."""
        keys, values = self._cache.keys, self._cache.values
        num_rows, num_kv, _, width = keys.shape
        num_looked = self._seen.unseen.shape[2]
        query, key, value = heads.split_with_sizes((heads.shape[1] - 2 * num_kv, num_kv, num_kv), 1)
        rows = torch.arange(num_rows, device=heads.device)
        keys[rows, :, self._seen.lengths] = key
        values[rows, :, self._seen.lengths] = value
        batch, groups = num_rows * num_kv, query.shape[1] // num_kv
        with scratch.frame():
            queries = scratch.take(*query.shape).copy_(query).view(batch, groups, width)
            scores = scratch.take(batch, groups, num_looked)
            seen_keys = keys.view(batch, -1, width)[:, :num_looked].transpose(1, 2)
            torch.baddbmm(scores, queries, seen_keys, beta=0, alpha=self._seen.scale, out=scores)
            scores.view(num_rows, -1, num_looked).masked_fill_(self._seen.unseen, float("-inf"))
            weights = torch.softmax(scores, -1, out=scratch.take(*scores.shape))
            torch.bmm(weights, values.view(batch, -1, width)[:, :num_looked], out=out.view(batch, groups, width))
