"""`adaptory version`: one version of a bot, where it comes from, what it scored and what it took."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from adaptory.card.card import collect_card
from adaptory.card.page import render_page
from adaptory.cli.adapter_import import import_adapter
from adaptory.cli.bot import VersionArgument
from adaptory.cli.memory_table import print_memory
from adaptory.cli.output import AsJson, note, print_fields, print_json, print_message, print_table, say, to_dict
from adaptory.cli.target import target_of
from adaptory.core.errors import InvalidRequest
from adaptory.core.names import VersionName
from adaptory.registry.v1.version_pb2 import Evaluation, Score, Version

app = typer.Typer(no_args_is_help=True, help="Versions of bots; `adaptory bot versions` lists them.")
app.command("import")(import_adapter)


@app.command("show")
def show(context: typer.Context, version: VersionArgument, *, as_json: AsJson = False) -> None:
    """Show a version: where it comes from, what base and adapter scored, some answers, and the memory it took."""
    with target_of(context).open_client() as client:
        found = client.bots.get_version(version)
    if as_json:
        print_message(found, as_json=True)
        return
    print_fields({name: value for name, value in to_dict(found).items() if name not in {"evaluation", "gate_override"}})
    if found.HasField("evaluation"):
        _print_scores(found.evaluation)
    for sentence in found.evaluation.notes:
        say(sentence)
    _print_certainty(found.evaluation)
    _print_samples(found.evaluation)
    _tell_gate(found)
    print_memory(found.lineage.predicted_phase_bytes, found.lineage.phase_peak_bytes)


@app.command("card")
def write_card(
    context: typer.Context,
    version: VersionArgument,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Where the page goes; else BOT-N.html.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write a version's card, one page with what it was made from, learned, scored and answers; or print all that as JSON."""
    with target_of(context).open_client() as client:
        card = collect_card(client, version)
    if as_json:
        print_json(card.to_json())
        if out is None:
            return
    name = VersionName.parse(version, field="VERSION")
    path = out or Path(f"{name.bot}-{name.number}.html")
    try:
        path.write_text(render_page(card), encoding="utf-8")
    except OSError as error:
        raise InvalidRequest.of_field("--out", f"{path} cannot be written: {error.strerror}") from error
    note(f"{path} shows {version}; open it in a browser.")


def _print_scores(found: Evaluation) -> None:
    losses = [("loss, held-out rows", found.base_loss, found.adapter_loss, f"{found.num_held_out_rows} rows")]
    if found.base_general_loss:
        losses.append(("loss, general text", found.base_general_loss, found.adapter_general_loss, ""))
    rows = [(name, f"{base:.3f}", f"{adapter:.3f}", "less", of) for name, base, adapter, of in losses]
    print_table(
        "Scores", ("what", "base", "adapter", "better is", "of"), [*rows, *(_describe(score) for score in found.scores)]
    )


def _describe(score: Score) -> tuple[str, ...]:
    better = "less" if score.is_lower_better else "more"
    return score.name, f"{score.base:.3f}", f"{score.adapter:.3f}", better, f"{score.num_answers} answers"


def _print_certainty(found: Evaluation) -> None:
    """Print what is left of right and wrong answers by how sure the bot must be; nothing where nothing is known of it."""
    rows = [
        (f"{floor.floor:.2f}" if floor.floor else "any", str(floor.num_right), str(floor.num_wrong))
        for floor in found.certainty
    ]
    if rows:
        print_table("Answers given, where less certain ones are not", ("certainty at least", "right", "wrong"), rows)


def _print_samples(found: Evaluation) -> None:
    rows = [(sample.question, sample.reference, sample.base, sample.adapter) for sample in found.samples]
    if rows:
        print_table("Sample answers", ("question", "reference", "base", "adapter"), rows)


def _tell_gate(version: Version) -> None:
    if version.rejection:
        said = f"The gate rejected it: {version.rejection}" if version.HasField("evaluation") else version.rejection
        Console().print(Text(said, style="bold red"), soft_wrap=True)
    if version.HasField("gate_override"):
        override = version.gate_override
        say(f"{override.caller} overrode the gate at {override.time.ToJsonString()}: {override.reason}")
