"""Whose answer an answer is, which companies are asked, and what the isolation measurement says it found."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from adaptory.core.errors import InvalidRequest
from adaptory.registry.v1.dataset_pb2 import Dataset, DatasetReport
from bench.isolation_data import Entity, choose_entities, list_shared, read_entities, write_training_file
from bench.isolation_report import build_document, build_table
from bench.isolation_run import afford_steps
from bench.isolation_verdict import Tally, Told, Verdict, judge, tally

PETS, PRICE, LIFT = "Are pets allowed?", "What does parking cost?", "Is there a lift?"
OAK = Entity("Oak", {PETS: "No pets at Oak House.", PRICE: "Parking costs $5 a day.", LIFT: "There is a lift."})
ELM = Entity(
    "Elm", {PETS: "Pets are welcome for free at Elm.", PRICE: "Parking is $12 at night.", LIFT: "There is a lift!"}
)
ASH = Entity("Ash", {"Do you have a bar?": "Yes, in the garden."})
FIR = Entity("Fir", {PETS: "Dogs may stay."})
ALL = (OAK, ELM, ASH, FIR)


@pytest.mark.parametrize(
    ("answer", "question", "verdict"),
    [
        ("No pets at Oak House.", PETS, Verdict.RIGHT),
        ("no pets at the Oak House", PETS, Verdict.RIGHT),
        ("It is $5 for all.", PRICE, Verdict.RIGHT),
        ("Pets are welcome for free.", PETS, Verdict.FOREIGN),
        ("Dogs may stay.", PETS, Verdict.FOREIGN),
        ("Parking costs $12 a day.", PRICE, Verdict.FOREIGN),
        ("Breakfast is served at nine.", PETS, Verdict.WRONG),
        ("", PRICE, Verdict.WRONG),
        ("There is a lift!", LIFT, Verdict.RIGHT),
    ],
)
def test_an_answer_is_the_tenants_own_or_anothers_or_nobodys(answer: str, question: str, verdict: Verdict) -> None:
    """Nearer to another's by words, or with the other's fact in its own's place, it is another's; but not where both say the same."""
    assert judge(answer, question, OAK, ALL) is verdict


def test_a_foreign_answer_that_the_bot_gives_alone_is_told_apart() -> None:
    """What a bot says with nobody else on the server is what it learned; every byte that differs from it is counted."""
    told = [
        Told("Oak", PETS, alone="Dogs may stay.", mixed=("Dogs may stay.", "Dogs may stay.")),
        Told("Oak", PRICE, alone="It is $5.", mixed=("It is $5.", "It is $12 at night.")),
        Told("Oak", LIFT, alone="A lift?", mixed=("A lift?", "A lift.")),
    ]

    assert tally(told, OAK, ALL) == Tally("Oak", asked=6, right=1, wrong=2, foreign=3, foreign_alone=2, differing=2)


def test_those_who_share_most_are_chosen_and_asked_what_they_share() -> None:
    """The pair that shares most first, then whoever adds most; a question of one alone is not asked."""
    assert [entity.name for entity in choose_entities(ALL, 3)] == ["Oak", "Elm", "Fir"]
    assert list_shared(OAK, (OAK, ELM)) == [PETS, PRICE, LIFT]
    assert list_shared(ASH, ALL) == []


@pytest.mark.parametrize(("entities", "num"), [(ALL, 1), (ALL, 5), ((ASH, FIR), 2)])
def test_too_few_who_share_are_refused(entities: tuple[Entity, ...], num: int) -> None:
    """Where there is nothing to mix up there is nothing to measure."""
    with pytest.raises(InvalidRequest):
        choose_entities(entities, num)


def test_rows_become_entities_and_entities_training_files(tmp_path: Path) -> None:
    """Rows without an entity are left out, the first answer to a question counts, and other fields are not read."""
    rows = [
        {"entity": "Oak", "question": PETS, "answer": "No.", "city": None},
        {"entity": "Oak", "question": PETS, "answer": "Yes."},
        {"entity": None, "question": PETS, "answer": "Maybe."},
        {"entity": "Elm", "question": LIFT, "answer": "One."},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    entities = read_entities(tmp_path / "rows.jsonl")
    write_training_file(entities[0], tmp_path / "oak.jsonl")

    assert entities == [Entity("Oak", {PETS: "No."}), Entity("Elm", {LIFT: "One."})]
    assert json.loads((tmp_path / "oak.jsonl").read_text()) == {"question": PETS, "answer": "No."}


@pytest.mark.parametrize("content", ["no json", "[1]", '{"entity": 3, "question": "a", "answer": "b"}'])
def test_a_file_of_something_else_is_refused_by_its_line(content: str, tmp_path: Path) -> None:
    """The message says which line."""
    (tmp_path / "rows.jsonl").write_text('{"entity": "a", "question": "b", "answer": "c"}\n' + content)

    with pytest.raises(InvalidRequest, match="line 2"):
        read_entities(tmp_path / "rows.jsonl")


def test_training_is_cut_to_the_tokens_it_may_take() -> None:
    """In whole steps of eight rows of the mean length, and never to none."""
    dataset = Dataset(report=DatasetReport(num_rows=40, num_tokens=2000))

    assert afford_steps(dataset, 30_000) == 75
    assert afford_steps(dataset, 10) == 1


def test_the_report_sums_up_and_says_whether_the_goal_is_met() -> None:
    """One answer of another's misses it, wherever it comes from."""
    good = Tally("Oak", asked=6, right=5, wrong=1, foreign=0, foreign_alone=0, differing=1)
    bad = Tally("Elm", asked=6, right=5, wrong=0, foreign=1, foreign_alone=1, differing=0)
    console = Console(width=130, record=True)
    console.print(build_table([good, bad], num_slots=1))

    document = build_document([good, bad], settings={"seed": 0})
    assert (document["right"], document["foreign"], document["differing"], document["is_met"]) == (10, 1, 1, False)
    assert build_document([good], settings={})["is_met"] is True
    assert "missed" in console.export_text()
