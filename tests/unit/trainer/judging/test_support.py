"""Scores of support bots: chrF beside sacrebleu, style rules one by one, and both over several turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.chrf import CHRF

from trainer_svc.bots.kinds import BotKind
from trainer_svc.judging.answers import Criteria, score_answers
from trainer_svc.judging.chrf import score_chrf
from trainer_svc.judging.scores import Judged
from trainer_svc.judging.style import StyleRules, check_style

RULES = StyleRules(
    greetings=("Dear customer",),
    closings=("Kind regards, Aurora", "Yours, Aurora"),
    forms_of_address=("you", "your"),
    forbidden_words=("guys", "no idea"),
    min_chars=20,
    max_chars=120,
)
KEPT = "Dear customer, we shall repair your bike today. Kind regards, Aurora"


@given(st.text(), st.text())
def test_chrf_is_sacrebleus(answer: str, reference: str) -> None:
    """The same number for any two texts."""
    theirs = CHRF().sentence_score(answer, [reference]).score / 100

    assert score_chrf(answer, reference) == pytest.approx(theirs, abs=1e-6)


def test_chrf_forgives_other_forms_of_a_word() -> None:
    """A repair that is repaired is nearer than another word."""
    assert score_chrf("it is repaired", "it is a repair") > score_chrf("it is finished", "it is a repair") > 0
    assert score_chrf("same", "same") == 1


def test_a_reply_that_keeps_all_rules() -> None:
    """Whatever the case and the line breaks."""
    kept = check_style(KEPT.upper().replace(". ", ".\n\n"), RULES, is_first=True)

    assert kept == dict.fromkeys(("greeting", "closing", "form_of_address", "forbidden_words", "length"), True)


@pytest.mark.parametrize(
    ("reply", "broken"),
    [
        (KEPT.replace("Dear customer", "Hi"), "greeting"),
        (KEPT + " Bye!", "closing"),
        (KEPT.replace("your", "yourself"), "form_of_address"),
        (KEPT.replace("bike", "bike, guys,"), "forbidden_words"),
        (KEPT.replace("today", "today" * 20), "length"),
    ],
)
def test_a_broken_rule_is_named(reply: str, broken: str) -> None:
    """The others stay kept; words count whole."""
    kept = check_style(reply, RULES, is_first=True)

    assert [name for name, is_kept in kept.items() if not is_kept] == [broken]


@pytest.mark.parametrize(
    ("reply", "broken"),
    [
        ("お電話ありがとうございます。お客様の時計は明日届きます。失礼いたします。", []),
        ("お電話ありがとうございます。あなたの時計は明日届きます。失礼いたします。", ["form_of_address"]),
        ("お電話ありがとうございます。お客様の時計は無理です。失礼いたします。", ["forbidden_words"]),
    ],
)
def test_rules_hold_where_words_have_no_spaces(reply: str, broken: list[str]) -> None:
    """In Japanese a word counts wherever it stands in a reply."""
    rules = StyleRules(("お電話ありがとう",), ("失礼いたします。",), ("お客様",), ("無理",))
    kept = check_style(reply, rules, is_first=True)

    assert [name for name, is_kept in kept.items() if not is_kept] == broken


def test_only_the_first_reply_greets() -> None:
    """In later turns a greeting is no rule, and without rules nothing is checked."""
    assert "greeting" not in check_style(KEPT, RULES, is_first=False)
    assert check_style(KEPT, StyleRules(), is_first=True) == {}


def test_support_is_scored_over_all_turns() -> None:
    """Each score says how many replies it is of: a greeting concerns first turns, facts the replies that have one."""
    judged = [
        Judged("Hello?", "Hello?", "Dear customer, your code is QX-41.", "What?", KEPT, turn=0),
        Judged("Hello?", "Thanks!", "It is a pleasure.", "What?", KEPT.replace("Dear customer, w", "W"), turn=1),
    ]
    scores = {score.name: score for score in score_answers(judged, Criteria(BotKind.SUPPORT, style=RULES))}

    assert [(name, scores[name].num_answers) for name in ("chrf", "fact_recall", "style_kept", "style_greeting")] == [
        ("chrf", 2),
        ("fact_recall", 1),
        ("style_kept", 2),
        ("style_greeting", 1),
    ]
    assert (scores["style_kept"].adapter, scores["style_greeting"].base, scores["style_closing"].adapter) == (1, 0, 1)
    assert scores["chrf"].adapter > scores["chrf"].base
