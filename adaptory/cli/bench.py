"""`adaptory bench`: runs one of the measurements in a child process, so that its memory and speed are its own."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from adaptory.cli.output import AsJson, print_json, print_table
from adaptory.core.errors import NotFound


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to measure; left out, the measurements are listed.")] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Measure something; what follows the name is passed on to it."""
    programs = _find_programs()
    if not name:
        _print_programs(programs, as_json=as_json)
        return
    if name not in programs:
        message = f"There is no measurement {name!r}; there are {', '.join(programs) or 'none'}."
        raise NotFound(message, metadata={"name": name})
    options = ["--json"] if as_json else []
    ended = subprocess.run([sys.executable, "-m", f"bench.{name}", *context.args, *options], check=False)  # noqa: S603 - ours
    raise typer.Exit(ended.returncode)


def _find_programs() -> dict[str, Path]:
    package = importlib.util.find_spec("bench")
    folders = package.submodule_search_locations if package else None
    files = sorted(file for folder in folders or () for file in Path(folder).glob("*.py"))
    return {file.stem: file for file in files if "__main__" in file.read_text()}


def _print_programs(programs: dict[str, Path], *, as_json: bool) -> None:
    # Read, not imported: a measurement may import anything.
    sentences = {
        name: (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0] for name, file in programs.items()
    }
    if as_json:
        print_json(sentences)
        return
    print_table("Measurements", ("name", "what it measures"), list(sentences.items()))
