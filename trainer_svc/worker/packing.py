"""Lays the rows of a micro-batch into one sequence without padding, each shared beginning once.

Owns the prefix tree: a *node* is one token in its context, a row is a path of nodes from the root. What the tree means for
attention is for `attention` to say. Exact: a token's hidden state depends on the tokens before it alone, and those are its path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from adaptory.core.prompting import RenderedRow
from trainer_svc.memory.layout import SIZE_MULTIPLE, WIDTH_MULTIPLE, PackSize, round_size

# A few equal tokens (the opening of every turn) are not worth the bookkeeping of a shared gradient.
MIN_SHARED_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Pack:
    """One micro-batch: N nodes, R rows of at most L tokens, M targets; on one device, int64 but for `weights`.

    `paths[r, t]` is the node of token t of row r; behind a row's end it repeats the row's first node, which causal attention
    never lets an earlier token see. `owners[n]` is the place r * L + t where node n was made. `copies` are the places r * L + t of
    tokens that share the node made by an earlier row. `sources[m]` is the node that predicts token `targets[m]`; `weights[m]` is 1,
    or 0 for what rounds M up. N is rounded up by nodes behind the shortest row's end, which nothing sees.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    paths: torch.Tensor
    owners: torch.Tensor
    copies: torch.Tensor
    sources: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    num_row_tokens: int

    @property
    def num_rows(self) -> int:
        """Rows that were packed."""
        return self.paths.shape[0]

    @property
    def num_nodes(self) -> int:
        """Tokens that are computed, each shared one once."""
        return self.ids.numel()


class _Tree:
    """The prefix tree while rows are added, in the order of their ids so that equal beginnings are neighbours."""

    def __init__(self, width: int) -> None:
        self._width = width
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.owners: list[int] = []
        self.copies: list[int] = []
        self.paths: list[list[int]] = []

    def add(self, tokens: Sequence[int], num_shared: int) -> None:
        """Add a row whose first `num_shared` tokens are those of the row before."""
        begin = len(self.paths) * self._width
        path = self.paths[-1][:num_shared] if num_shared else []
        path += range(len(self.ids), len(self.ids) + len(tokens) - num_shared)
        self.paths.append(path + [path[0]] * (self._width - len(path)))
        self.copies += range(begin, begin + num_shared)
        self.owners += range(begin + num_shared, begin + len(tokens))
        self.ids += tokens[num_shared:]
        self.positions += range(num_shared, len(tokens))


def pack_rows(rows: Sequence[RenderedRow], device: torch.device) -> Pack:
    """Pack rows; every row must have a learned token behind its first.

    Tokens behind a row's last learned one predict nothing that counts, and nor does that one itself: they are left out.
    """
    ordered = sorted(rows, key=_read_input)
    inputs = [_read_input(row) for row in ordered]
    shared = _count_shared_tokens(inputs)
    # The shortest row takes the nodes that round N up: there they widen attention least.
    shortest = min(range(len(inputs)), key=lambda index: len(inputs[index]))
    padded = list(inputs)
    num_nodes = sum(map(len, inputs)) - sum(shared)
    num_padding = round_size(num_nodes) - num_nodes
    padded[shortest] += inputs[shortest][:1] * num_padding
    width = max(map(len, padded))
    tree = _Tree(width + _padding(width, WIDTH_MULTIPLE))
    for tokens, num_shared in zip(padded, shared, strict=True):
        tree.add(tokens, num_shared)
    learned = [
        (path[place - 1], row.ids[place], 1.0)
        for path, row in zip(tree.paths, ordered, strict=True)
        for place in range(1, len(row.ids))
        if row.learned[place]
    ]
    learned += [(0, 0, 0.0)] * (_padding(len(learned), SIZE_MULTIPLE))
    sources, targets, weights = zip(*learned, strict=True)
    return Pack(
        ids=torch.tensor(tree.ids, device=device),
        positions=torch.tensor(tree.positions, device=device),
        paths=torch.tensor(tree.paths, device=device),
        owners=torch.tensor(tree.owners, device=device),
        copies=torch.tensor(tree.copies, dtype=torch.int64, device=device),
        sources=torch.tensor(sources, device=device),
        targets=torch.tensor(targets, device=device),
        weights=torch.tensor(weights, device=device),
        num_row_tokens=sum(len(row.ids) for row in rows),
    )


def measure_pack(rows: Sequence[RenderedRow]) -> PackSize:
    """Return the sizes of the pack of these rows, without making it."""
    inputs = sorted(map(_read_input, rows))
    num_shared = sum(_count_shared_tokens(inputs))
    lengths = sorted(map(len, inputs))
    num_nodes = sum(lengths) - num_shared
    # As in `pack_rows`: the shortest row takes the nodes that round up.
    num_padding = round_size(num_nodes) - num_nodes
    lengths[0] += num_padding
    num_learned = count_learned(rows)
    return PackSize(
        nodes=num_nodes + num_padding,
        rows=len(inputs),
        width=max(lengths) + _padding(max(lengths), WIDTH_MULTIPLE),
        learned=num_learned + _padding(num_learned, SIZE_MULTIPLE),
        copies=num_shared,
    )


def count_learned(rows: Sequence[RenderedRow]) -> int:
    """Return how many tokens of the rows the loss counts: a row's first token is predicted by nothing."""
    return sum(sum(row.learned[1:]) for row in rows)


def _read_input(row: RenderedRow) -> tuple[int, ...]:
    """Return the tokens of a row that predict something, or are seen by one that does."""
    return row.ids[: max(place for place, learned in enumerate(row.learned) if learned)]


def _count_shared_tokens(inputs: Sequence[Sequence[int]]) -> list[int]:
    """Return for each row how many of its first tokens it shares with the row before."""
    return [0, *(_count_equal(left, right) for left, right in pairwise(inputs))]


def _count_equal(left: Sequence[int], right: Sequence[int]) -> int:
    equal = next((place for place, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), None)
    num_equal = min(len(left), len(right)) if equal is None else equal
    return num_equal if num_equal >= MIN_SHARED_TOKENS else 0


def _padding(size: int, multiple: int) -> int:
    return -size % multiple
