"""How the worker reads, orders and packs rows."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from adaptory.core.errors import InvalidRequest
from adaptory.core.fim import FimRenderer
from adaptory.core.fim_families import TAUGHT
from adaptory.core.prompting import Message, RenderedRow, Renderer
from tests.contracts.training_stand import CPU, make_rows
from trainer_svc.bots.row import Row
from trainer_svc.bots.row_rendering import RowRenderer, write_row
from trainer_svc.jobs.workspace import TrainingSettings
from trainer_svc.memory.batches import count_steps
from trainer_svc.worker.packing import Pack, measure_pack, pack_rows
from trainer_svc.worker.rows import load_rows, order_batches

TEMPLATE = "{% for message in messages %}{{ message.content }} <end>{% endfor %}"


@pytest.fixture
def renderer() -> RowRenderer:
    """A renderer of single words."""
    words = Tokenizer(WordLevel({"<unk>": 0, "<end>": 1, "word": 2}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.add_special_tokens(["<end>"])
    return RowRenderer(Renderer(words, TEMPLATE, "<end>"), FimRenderer(words, TAUGHT, "<end>"))


def _write(file: Path, lengths: list[int]) -> Path:
    talks = [(Message("user", "word"), Message("assistant", "word " * n)) for n in lengths]
    file.write_text("\n".join(write_row(Row(talk, is_held_out=False)) for talk in talks))
    return file


def _read_paths(pack: Pack) -> set[tuple[int, ...]]:
    """Return the ids along each row's path; behind a row's end they repeat, so only the set of beginnings is told."""
    return {tuple(pack.ids[path].tolist()) for path in pack.paths}


def test_a_few_long_rows_are_left_out_and_counted(renderer: RowRenderer, tmp_path: Path) -> None:
    """Two of a hundred may be too long; they are counted, not clipped."""
    rows = load_rows(_write(tmp_path / "rows", [5] * 98 + [50] * 2), renderer, max_row_tokens=20)

    assert (len(rows.rows), rows.num_too_long, max(len(row.ids) for row in rows.rows)) == (98, 2, 8)


def test_too_many_long_rows_refuse_the_data(renderer: RowRenderer, tmp_path: Path) -> None:
    """Three of a hundred are too many, and the error has the numbers."""
    with pytest.raises(InvalidRequest, match="3 of 100 rows have more than 20 tokens") as refused:
        load_rows(_write(tmp_path / "rows", [5] * 97 + [50] * 3), renderer, max_row_tokens=20)

    assert refused.value.reason == "ROWS_UNUSABLE"


def test_every_epoch_has_all_rows_in_another_order() -> None:
    """Batches of an epoch hold each row once; the same seed gives the same order, another epoch another."""
    rows = make_rows(10)
    settings = TrainingSettings(batch_rows=4, epochs=2, seed=7)
    batches = list(order_batches(rows, settings))

    assert batches == list(order_batches(rows, settings))
    assert len(batches) == count_steps(10, settings)
    epochs = [sum(batches[:3], []), sum(batches[3:], [])]  # noqa: RUF017 - six short lists
    assert epochs[0] != epochs[1]
    assert all(sorted(row.ids for row in epoch) == sorted(row.ids for row in rows) for epoch in epochs)


def test_shared_beginnings_become_one_node_each() -> None:
    """Rows of a common beginning of 40 tokens take one copy of it, and each path still reads as its row."""
    rows = make_rows(4, num_shared=40)
    pack = pack_rows(rows, CPU)
    inputs = [row.ids[: max(place for place, on in enumerate(row.learned) if on)] for row in rows]

    assert pack.num_nodes == measure_pack(rows).nodes < sum(map(len, inputs)) - 2 * 40
    assert all(any(path[: len(ids)] == ids for path in _read_paths(pack)) for ids in inputs)


def test_every_learned_token_is_a_target_once() -> None:
    """The targets of weight 1 are the learned tokens of all rows, a shared answer counted for each row."""
    rows = [*make_rows(2), *make_rows(2)]
    pack = pack_rows(rows, CPU)
    targets = [target for target, weight in zip(pack.targets.tolist(), pack.weights.tolist(), strict=True) if weight]

    expected = [token for row in rows for token, on in zip(row.ids, row.learned, strict=True) if on]
    assert sorted(targets) == sorted(expected)


def test_tokens_behind_the_last_learned_one_are_not_computed() -> None:
    """What predicts nothing that counts takes no node."""
    row = RenderedRow(tuple(range(3, 103)), tuple(place == 20 for place in range(100)))

    assert pack_rows([row], CPU).num_nodes == 32
