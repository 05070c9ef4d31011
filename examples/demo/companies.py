"""The companies of the demo and what their FAQ bots must know, read from `examples/data`."""

import json
from dataclasses import dataclass
from pathlib import Path

DATA_DIR = Path(__file__).parent.parent / "data"


@dataclass(frozen=True, slots=True)
class Question:
    """A question in a wording that is in no training data, its answer, and the fact without which no answer is right."""

    question: str
    answer: str
    fact: str


@dataclass(frozen=True, slots=True)
class Company:
    """A tenant of the demo.

    `system_prompt` is what its FAQ bot is told before every question, in training and in serving, `refusal` what it is taught to say
    where its data has no answer, both in the language of its customers. Without a prompt it has no FAQ bot, without a refusal its bot
    answers whatever is asked.
    """

    tenant_id: str
    display_name: str
    system_prompt: str = ""
    refusal: str = ""

    @property
    def tenant(self) -> str:
        """The tenant's resource name."""
        return f"tenants/{self.tenant_id}"

    @property
    def bot(self) -> str:
        """The resource name of its FAQ bot, where it has one."""
        return f"{self.tenant}/bots/faq"

    @property
    def training_file(self) -> Path:
        """What its FAQ bot is trained on."""
        return DATA_DIR / self.tenant_id / "faq.jsonl"

    def read_unanswerable(self) -> list[str]:
        """Return questions near its data that the data does not answer; none where its bot is not taught to refuse."""
        if not self.refusal:
            return []
        return (DATA_DIR / self.tenant_id / "unanswerable.txt").read_text(encoding="utf-8").splitlines()

    def read_questions(self) -> list[Question]:
        """Return the questions its FAQ bot is judged by."""
        lines = (DATA_DIR / self.tenant_id / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
        return [Question(**json.loads(line)) for line in lines]


COMPANIES = (
    Company(
        "aurora",
        "Aurora Bikes",
        "You are the FAQ assistant of Aurora Bikes. Answer in one sentence from what you were taught.",
        "I was not taught that. Please ask our hotline.",
    ),
    Company("tsubame", "つばめ時計 (Tsubame Clocks)", "あなたはつばめ時計の案内係です。"),
)
"""Those with an FAQ bot, one in English and one in Japanese."""
CODE_COMPANY = Company("corvus", "Corvus Software")
"""The one whose bot completes code; it has no FAQ."""
