"""What the parity measurement says it found."""

import json

from rich.console import Console

from bench.parity_report import build_document, build_table
from bench.parity_run import OnBase
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.scores import Score
from trainer_svc.memory.techniques import BasePrecision


def make_evaluation(*, recall: float, loss: float) -> Evaluation:
    """Return an evaluation of fifty answers."""
    scores = (Score("fact_recall", 0.0, recall, 50), Score("token_f1", 0.1, 0.5, 50))
    return Evaluation(3.0, loss, 50, 100, 400.0, 60.0, scores=scores)


TRAINED = make_evaluation(recall=0.8, loss=0.25)
FOUND = [
    OnBase(BasePrecision.NF4, TRAINED),
    OnBase(BasePrecision.PARITY_BF16, make_evaluation(recall=0.79, loss=0.26)),
    OnBase(BasePrecision.BF16, make_evaluation(recall=0.6, loss=0.5)),
]


def _print(trained: Evaluation) -> str:
    console = Console(width=120, record=True)
    console.print(build_table(trained, FOUND))
    return console.export_text()


def test_each_base_keeps_a_share_of_what_training_measured() -> None:
    """Its own score, and how much that is of the worker's."""
    lines = {line.split("│")[1].strip(): line for line in _print(TRAINED).splitlines() if line.count("│") > 1}

    parity = lines["parity base, as it is served"]
    assert all(cell in parity for cell in ("0.790", "98.8%", "0.260"))
    assert "75.0%" in lines["original bf16"]
    assert "100.0%" in lines["measured in training"]


def test_a_score_of_nothing_has_no_share() -> None:
    """Nothing is divided by nothing."""
    assert " - " in _print(make_evaluation(recall=0.0, loss=1.0))


def test_the_document_has_every_base() -> None:
    """By its precision, with machine and versions, as JSON."""
    document = json.loads(json.dumps(build_document(TRAINED, FOUND)))

    assert [one["precision"] for one in document["bases"]] == ["nf4", "parity_bf16", "bf16"]
    assert {"date", "machine", "versions", "trained"} <= document.keys()
