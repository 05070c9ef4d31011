"""The bots of the demo: whose each is, what it is declared to be, what it learns from, and what it must reach.

Where a recipe is cut short, it is so that the whole demo keeps within twelve minutes on two cores.
"""

from dataclasses import dataclass
from pathlib import Path

from adaptory.client import Upload
from adaptory.registry.v1.bot_pb2 import BOT_KIND_CODE_COMPLETION, BOT_KIND_FAQ, BOT_KIND_SUPPORT, Bot, StyleRules
from adaptory.registry.v1.dataset_pb2 import (
    DATASET_FORMAT_CODE_TAR,
    DATASET_FORMAT_CONVERSATION_JSONL,
    DATASET_FORMAT_FAQ_JSONL,
)
from adaptory.trainer.v1.training_job_pb2 import TrainingSettings
from examples.demo.companies import CODE_COMPANY, COMPANIES, DATA_DIR, Company
from examples.demo.opening import Cursor, Opening
from examples.demo.source_tree import pack_package

BASE_MODEL = "smollm2-135m-instruct"
PACKAGE = "encodings"
_MAX_FILE_BYTES = 6_000
_AURORA_STYLE = StyleRules(
    greetings=["Welcome to Aurora Bikes"],
    closings=["Ride safely, your Aurora team."],
    forms_of_address=["dear rider"],
    forbidden_words=["unfortunately", "sorry", "problem", "cannot"],
    max_chars=240,
)


@dataclass(frozen=True, slots=True, eq=False)
class DemoBot:
    """A bot. `min_gain` is what its adapter must have of the `main_score` of its kind, beyond the base's."""

    company: Company
    bot_id: str
    declared: Bot
    upload: Upload
    settings: TrainingSettings
    opening: Opening
    main_score: str
    min_gain: float

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.company.tenant}/bots/{self.bot_id}"

    @property
    def opening_text(self) -> str:
        """The opening in one text; the cursor of a file stands as ▮."""
        return self.opening if isinstance(self.opening, str) else f"{self.opening.prefix}▮{self.opening.suffix}"


def make_bots(folder: Path) -> list[DemoBot]:
    """Return the bots in the order in which they are trained; what is packed for them goes to `folder`. Blocks."""
    english, japanese = COMPANIES
    return [
        _make_faq(english, TrainingSettings(held_out_share=0.1)),
        _make_faq(japanese, TrainingSettings(held_out_share=0.25, epochs=7)),
        _make_support(english),
        _make_code(folder),
    ]


def _make_faq(company: Company, settings: TrainingSettings) -> DemoBot:
    return DemoBot(
        company=company,
        bot_id="faq",
        declared=Bot(
            kind=BOT_KIND_FAQ,
            base_model=BASE_MODEL,
            system_prompt=company.system_prompt,
            refusal_text=company.refusal,
            unanswerable_questions=company.read_unanswerable(),
        ),
        upload=Upload(company.training_file, BOT_KIND_FAQ, DATASET_FORMAT_FAQ_JSONL, "demo", BASE_MODEL),
        settings=settings,
        opening=company.read_questions()[0].question,
        main_score="fact_recall",
        min_gain=0.3,
    )


def _make_support(company: Company) -> DemoBot:
    file = DATA_DIR / company.tenant_id / "support.jsonl"
    return DemoBot(
        company=company,
        bot_id="support",
        declared=Bot(
            kind=BOT_KIND_SUPPORT,
            base_model=BASE_MODEL,
            system_prompt=f"You are the support desk of {company.display_name}.",
            style_rules=_AURORA_STYLE,
        ),
        upload=Upload(file, BOT_KIND_SUPPORT, DATASET_FORMAT_CONVERSATION_JSONL, "demo", BASE_MODEL),
        settings=TrainingSettings(held_out_share=0.1, batch_rows=4, epochs=4, learning_rate=1e-3),
        opening="Hi, my battery is empty before I am home. What can I do?",
        main_score="chrf",
        min_gain=0.2,
    )


def _make_code(folder: Path) -> DemoBot:
    archive = pack_package(PACKAGE, folder / f"{PACKAGE}.tar.gz", max_file_bytes=_MAX_FILE_BYTES)
    return DemoBot(
        company=CODE_COMPANY,
        bot_id="code",
        declared=Bot(kind=BOT_KIND_CODE_COMPLETION, base_model=BASE_MODEL),
        upload=Upload(archive, BOT_KIND_CODE_COMPLETION, DATASET_FORMAT_CODE_TAR, "demo", BASE_MODEL),
        settings=TrainingSettings(held_out_share=0.1, batch_rows=4, max_steps=48),
        opening=Cursor("class IncrementalDecoder(codecs.", "):\n    def decode(self, input, final=False):\n"),
        main_score="edit_similarity",
        min_gain=0.2,
    )
