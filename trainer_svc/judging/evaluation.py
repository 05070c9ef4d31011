"""What a version is judged by, as it is kept with it."""

from dataclasses import dataclass

from trainer_svc.judging.certainty import CertaintyFloor
from trainer_svc.judging.scores import Score


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """One held-out question with its reference and both answers."""

    question: str
    reference: str
    base: str
    adapter: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Losses on rows held out and on general text, scores of answers to held-out prompts, and what the training was like.

    Losses are means over learned tokens, in nats; `notes` say in a sentence each what could not be measured, and why. `certainty`
    says of an FAQ bot how many answers, right and wrong, are left where uncertain ones are not given, by what counts as uncertain.
    `weights_fault` says why the adapter's values must never be served, and is empty where they may. What has a default was not taken
    at first: versions of earlier releases lack it.
    """

    base_loss: float
    adapter_loss: float
    num_held_out_rows: int
    num_train_rows: int
    train_tokens_per_second: float
    train_seconds: float
    base_general_loss: float = 0.0
    adapter_general_loss: float = 0.0
    scores: tuple[Score, ...] = ()
    samples: tuple[SampleAnswer, ...] = ()
    notes: tuple[str, ...] = ()
    weights_fault: str = ""
    certainty: tuple[CertaintyFloor, ...] = ()
