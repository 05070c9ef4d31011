"""The bots of the demo and what they learn from."""

import json
from pathlib import Path

import pytest

from adaptory.registry.v1.bot_pb2 import BOT_KIND_CODE_COMPLETION, BOT_KIND_FAQ, BOT_KIND_SUPPORT
from examples.demo.bots import DemoBot, make_bots
from examples.demo.companies import CODE_COMPANY, COMPANIES
from examples.demo.quiz import holds
from examples.demo.source_tree import pack_package
from trainer_svc.bots.code_tree import read_code_tree
from trainer_svc.bots.inspection import judge_dataset
from trainer_svc.bots.kinds import BotKind, DatasetFormat
from trainer_svc.bots.limits import DataLimits
from trainer_svc.bots.problem import NoProblems
from trainer_svc.bots.scripts import is_japanese
from trainer_svc.bots.support_data import Conversation, read_conversation_lines
from trainer_svc.judging.style import StyleRules, check_style


@pytest.fixture(scope="module")
def bots(tmp_path_factory: pytest.TempPathFactory) -> list[DemoBot]:
    """The demo's bots, with what they learn from."""
    return make_bots(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def support(bots: list[DemoBot]) -> DemoBot:
    """The support bot."""
    return next(bot for bot in bots if bot.declared.kind == BOT_KIND_SUPPORT)


def test_three_tenants_have_bots_of_all_three_kinds(bots: list[DemoBot]) -> None:
    """Each company is there, and each kind; no two bots have one name."""
    assert {bot.company for bot in bots} == {*COMPANIES, CODE_COMPANY}
    kinds = {bot.declared.kind for bot in bots}
    assert kinds == {BOT_KIND_FAQ, BOT_KIND_SUPPORT, BOT_KIND_CODE_COMPLETION}
    assert len({bot.name for bot in bots}) == len(bots)


def test_every_reply_of_the_conversations_keeps_the_declared_style(support: DemoBot) -> None:
    """What the support bot learns is in the tone it is judged by."""
    declared = support.declared.style_rules
    rules = StyleRules(
        tuple(declared.greetings),
        tuple(declared.closings),
        tuple(declared.forms_of_address),
        tuple(declared.forbidden_words),
        declared.min_chars,
        declared.max_chars,
    )
    for talk in _read_talks(support):
        replies = [turn.content for turn in talk.messages if turn.role == "assistant"]
        assert len(replies) > 1
        for place, reply in enumerate(replies):
            kept = check_style(reply, rules, is_first=place == 0)
            assert all(kept.values()), (reply, kept)


def test_one_faq_is_japanese_and_both_are_of_one_shape(bots: list[DemoBot]) -> None:
    """As many entries, each in three wordings with a fourth to ask by, and no warning but of telephone numbers."""
    counts = set()
    for bot in bots:
        if bot.declared.kind == BOT_KIND_FAQ:
            with bot.upload.file.open("rb") as file:
                report = judge_dataset(file, BotKind.FAQ, DatasetFormat.FAQ_JSONL, DataLimits(), None)
            assert report.num_by_reason.keys() <= {"PERSONAL_EMAIL", "PERSONAL_PHONE"}
            assert {report.num_rows} == {3 * len(bot.company.read_questions())}
            counts.add(report.num_entries)
    assert counts == {48}
    languages = {
        company.tenant_id: {
            is_japanese(text)
            for question in company.read_questions()
            for text in (question.question, question.answer, company.system_prompt, company.refusal)
        }
        for company in COMPANIES
    }
    assert languages == {"aurora": {False}, "tsubame": {True}}


def test_held_out_wordings_are_in_no_training_data(bots: list[DemoBot]) -> None:
    """What is asked was never trained; the answer it is judged by was, word by word."""
    for bot in bots:
        if bot.declared.kind == BOT_KIND_FAQ:
            lines = [json.loads(line) for line in bot.upload.file.read_text(encoding="utf-8").splitlines()]
            trained = {wording for line in lines for wording in (line["question"], *line["wordings"])}
            questions = bot.company.read_questions()
            assert not trained & {question.question for question in questions}
            assert all(question.fact in question.answer for question in questions)
            assert [question.answer for question in questions] == [line["answer"] for line in lines]


def test_conversations_hold_no_fact_of_the_other_company(support: DemoBot) -> None:
    """A foreign fact in a reply of the support bot would be a leak."""
    texts = [turn.content for talk in _read_talks(support) for turn in talk.messages]
    for question in COMPANIES[1].read_questions():
        assert not any(holds(text, question.fact) for text in texts)


def test_a_package_is_packed_to_the_same_bytes_and_read_back(tmp_path: Path) -> None:
    """The archive is what the service takes as a source tree, and packing twice makes one dataset."""
    once, again = (
        pack_package("json", tmp_path / name, max_file_bytes=100_000) for name in ("once.tar.gz", "again.tar.gz")
    )
    assert once.read_bytes() == again.read_bytes()
    with once.open("rb") as file:
        found = {code.path: code.content for _, code in read_code_tree(file, DataLimits(), NoProblems())}
    assert "class JSONDecoder" in found["json/decoder.py"]


def test_a_package_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Where there is nothing to learn from, the demo says which folder has none."""
    with pytest.raises(FileNotFoundError, match="no_such_package"):
        pack_package("no_such_package", tmp_path / "tree.tar.gz", max_file_bytes=1)


def _read_talks(support: DemoBot) -> list[Conversation]:
    with support.upload.file.open("rb") as file:
        return [talk for _, talk in read_conversation_lines(file, DataLimits(), NoProblems())]
