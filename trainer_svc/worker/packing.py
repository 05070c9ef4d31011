"""Lays the rows of a micro-batch into one sequence without padding, each shared beginning once.

Owns the prefix tree: a *node* is one token in its context, a row is a path of nodes from the root. What the tree means for
attention is for `attention` to say. Exact: a token's hidden state depends on the tokens before it alone, and those are its path.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from adaptory.core.prompting import RenderedRow

# A few equal tokens (the opening of every turn) are not worth the bookkeeping of a shared gradient.
MIN_SHARED_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Pack:
    """One micro-batch: N nodes, R rows of at most L tokens, M learned tokens; all int64 on one device.

    `paths[r, t]` is the node of token t of row r; behind a row's end it repeats the row's first node, which causal attention
    never lets an earlier token see. `owners[n]` is the place r * L + t where node n was made. `copies` are the places r * L + t of
    tokens that share the node made by an earlier row. `sources[m]` is the node that predicts token `targets[m]`.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    paths: torch.Tensor
    owners: torch.Tensor
    copies: torch.Tensor
    sources: torch.Tensor
    targets: torch.Tensor
    num_row_tokens: int

    @property
    def num_rows(self) -> int:
        """Rows that were packed."""
        return self.paths.shape[0]

    @property
    def num_nodes(self) -> int:
        """Tokens that are computed, each shared one once."""
        return self.ids.numel()


def pack_rows(rows: Sequence[RenderedRow], device: torch.device) -> Pack:
    """Pack rows; every row must have a learned token behind its first.

    Tokens behind a row's last learned one predict nothing that counts, and nor does that one itself: they are left out.
    """
    ordered = sorted(rows, key=lambda row: row.ids)
    inputs = [row.ids[: _last_learned(row)] for row in ordered]
    width = max(map(len, inputs))
    ids: list[int] = []
    positions: list[int] = []
    owners: list[int] = []
    copies: list[int] = []
    paths: list[list[int]] = []
    for index, tokens in enumerate(inputs):
        shared = _count_shared(inputs[index - 1], tokens) if index else 0
        made = range(len(ids), len(ids) + len(tokens) - shared)
        path = [*(paths[-1][:shared] if shared else ()), *made]
        paths.append(path + [path[0]] * (width - len(path)))
        copies += range(index * width, index * width + shared)
        owners += range(index * width + shared, index * width + len(tokens))
        ids += tokens[shared:]
        positions += range(shared, len(tokens))
    learned = [
        (path[place - 1], row.ids[place])
        for path, row in zip(paths, ordered, strict=True)
        for place in range(1, len(row.ids))
        if row.learned[place]
    ]
    return Pack(
        ids=torch.tensor(ids, device=device),
        positions=torch.tensor(positions, device=device),
        paths=torch.tensor(paths, device=device),
        owners=torch.tensor(owners, device=device),
        copies=torch.tensor(copies, dtype=torch.int64, device=device),
        sources=torch.tensor([source for source, _ in learned], device=device),
        targets=torch.tensor([target for _, target in learned], device=device),
        num_row_tokens=sum(len(row.ids) for row in rows),
    )


def count_learned(rows: Sequence[RenderedRow]) -> int:
    """Return how many tokens of the rows the loss counts: a row's first token is predicted by nothing."""
    return sum(sum(row.learned[1:]) for row in rows)


def _last_learned(row: RenderedRow) -> int:
    return max(place for place, learned in enumerate(row.learned) if learned)


def _count_shared(left: Sequence[int], right: Sequence[int]) -> int:
    shared = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        shared += 1
    return shared if shared >= MIN_SHARED_TOKENS else 0
