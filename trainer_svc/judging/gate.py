"""The gate: whether a version is good enough to answer, and a sentence for each reason why not.

Each kind of bot has a *main score*, in which the adapter must beat its base; the loss on held-out rows, the loss on general text,
false refusals and tests of code that no longer pass have limits. Weights that no server would load, such as NaN, are a fault that
nobody can override.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from trainer_svc.bots.kinds import BotKind
from trainer_svc.judging.code import EDIT_SIMILARITY
from trainer_svc.judging.evaluation import Evaluation
from trainer_svc.judging.faq import FACT_RECALL, FALSE_REFUSALS, TOKEN_F1
from trainer_svc.judging.pass_rate import PASS_AT_1
from trainer_svc.judging.support import CHRF

_DEFAULT_MAX_LOSS_RATIO = 1.0
# By main score: above what an adapter of shuffled answers reaches by the words of a question (0.29 of facts and 0.20 in F1 on the
# demo's data, where a good one gains 0.93 and 0.74), and for tone and code, of which a base knows much, just better.
_DEFAULT_MIN_GAINS = {FACT_RECALL: 0.35, TOKEN_F1: 0.3, CHRF: 0.02, EDIT_SIMILARITY: 0.03}
# A model of 135M parameters that learned fifty facts by heart loses a nat on general text (measured on the demo's); one that is
# spoiled, four and more.
_DEFAULT_MAX_GENERAL_LOSS_RISE = 2.0
_DEFAULT_MAX_FALSE_REFUSALS = 0.1
# Code must not run less often than the base's. On fewer tests one that turns is more than what is allowed.
_DEFAULT_MAX_PASS_FALL = 0.05
_MIN_TESTS = 20

# The first of these that was measured is the one that counts.
_MAIN_SCORES = {
    BotKind.FAQ: (FACT_RECALL, TOKEN_F1),
    BotKind.SUPPORT: (CHRF,),
    BotKind.CODE_COMPLETION: (EDIT_SIMILARITY,),
}


@dataclass(frozen=True, slots=True)
class QualityGate:
    """What a version must reach; a 0 is the default of that threshold."""

    max_loss_ratio: float = 0.0
    min_gain: float = 0.0
    max_general_loss_rise: float = 0.0
    max_false_refusals: float = 0.0
    max_pass_fall: float = 0.0

    @property
    def effective_max_loss_ratio(self) -> float:
        """The most that the adapter's held-out loss may be, as a share of the base's."""
        return self.max_loss_ratio or _DEFAULT_MAX_LOSS_RATIO

    def choose_min_gain(self, main_score: str) -> float:
        """Return by how much the adapter's main score must be above the base's."""
        return self.min_gain or _DEFAULT_MIN_GAINS[main_score]

    @property
    def effective_max_general_loss_rise(self) -> float:
        """By how many nats the loss on general text may rise."""
        return self.max_general_loss_rise or _DEFAULT_MAX_GENERAL_LOSS_RISE

    @property
    def effective_max_false_refusals(self) -> float:
        """The share of answerable prompts that may be refused."""
        return self.max_false_refusals or _DEFAULT_MAX_FALSE_REFUSALS

    @property
    def effective_max_pass_fall(self) -> float:
        """By how much the share of tests that pass may be below the base's."""
        return self.max_pass_fall or _DEFAULT_MAX_PASS_FALL


def find_faults(kind: BotKind, gate: QualityGate, found: Evaluation) -> list[str]:
    """Return a sentence with the numbers for each thing that is not good enough; none for a version that may answer."""
    return [
        *([found.weights_fault] if found.weights_fault else []),
        *_judge_held_out(gate, found),
        *_judge_general(gate, found),
        *_judge_gain(kind, gate, found),
        *_judge_refusals(gate, found),
        *_judge_tests(gate, found),
    ]


def _judge_held_out(gate: QualityGate, found: Evaluation) -> Iterator[str]:
    # Asked this way round, a loss that is NaN does not pass.
    if not found.adapter_loss <= found.base_loss * gate.effective_max_loss_ratio:
        yield (
            f"Its held-out loss is {found.adapter_loss:.4g}, the base's {found.base_loss:.4g}; the gate allows at most "
            f"{gate.effective_max_loss_ratio:.4g} of the base's. Add wordings or epochs, or change the bot's gate."
        )


def _judge_general(gate: QualityGate, found: Evaluation) -> Iterator[str]:
    base, adapter = found.base_general_loss, found.adapter_general_loss
    if not adapter - base <= gate.effective_max_general_loss_rise:
        yield (
            f"Its loss on general text is {adapter:.4g}, the base's {base:.4g}; the gate allows a rise of at most "
            f"{gate.effective_max_general_loss_rise:.4g}. Train with fewer epochs or a lower learning rate, or change the bot's gate."
        )


def _judge_gain(kind: BotKind, gate: QualityGate, found: Evaluation) -> Iterator[str]:
    measured = {score.name: score for score in found.scores}
    main = next((measured[name] for name in _MAIN_SCORES[kind] if name in measured), None)
    if main is not None and not main.adapter >= main.base + (min_gain := gate.choose_min_gain(main.name)):
        yield (
            f"Its {main.name} is {main.adapter:.3f}, the base's {main.base:.3f}, on {main.num_answers} held-out answers; the gate "
            f"wants {min_gain:.4g} more than the base. Check that the answers fit their questions, add wordings or "
            "epochs, or change the bot's gate."
        )


def _judge_refusals(gate: QualityGate, found: Evaluation) -> Iterator[str]:
    false = next((score for score in found.scores if score.name == FALSE_REFUSALS), None)
    if false is not None and not false.adapter <= gate.effective_max_false_refusals:
        yield (
            f"It refuses {false.adapter:.1%} of {false.num_answers} questions that its data answers; the gate allows at most "
            f"{gate.effective_max_false_refusals:.1%}. Add wordings, or change the bot's gate."
        )


def _judge_tests(gate: QualityGate, found: Evaluation) -> Iterator[str]:
    passed = next((score for score in found.scores if score.name == PASS_AT_1), None)
    if passed is None or passed.num_answers < _MIN_TESTS:
        return
    if not passed.base - passed.adapter <= gate.effective_max_pass_fall:
        yield (
            f"It passes {passed.adapter:.1%} of {passed.num_answers} held-out tests, the base {passed.base:.1%}; the gate allows a "
            f"fall of at most {gate.effective_max_pass_fall:.1%}. Train with fewer epochs or at a lower rate, add tasks, or change "
            "the bot's gate."
        )
