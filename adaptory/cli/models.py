"""`adaptory models`: the base models of the catalogue, and which of them are prepared on this machine."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from adaptory.cli.child import crashed, to_error
from adaptory.cli.output import AsJson, print_json, print_table, say
from adaptory.cli.sizes import format_bytes
from adaptory.core.base_model import BaseStore, PreparedBase, default_cache_root, find_base
from adaptory.core.catalogue import Catalogue, CatalogueEntry, find_entry
from adaptory.core.errors import FailedPrecondition

app = typer.Typer(no_args_is_help=True, help="Base models: list, prepare, show.")

Name = Annotated[str, typer.Argument(help="A name of the catalogue, or the one you give to --source.")]
Cache = Annotated[Path | None, typer.Option(help="Where prepared bases live; default: this user's cache folder.")]
OwnCatalogue = Annotated[Path | None, typer.Option("--catalogue", help="A catalogue file of your own, in TOML.")]
_PHASES = {
    "fetch": "Fetching",
    "load": "Loading",
    "convert": "Converting, and rounding to NF4",
    "hash": "Computing digests",
    "publish": "Writing to disk",
}


@app.command("list")
def list_models(*, cache: Cache = None, catalogue: OwnCatalogue = None, as_json: AsJson = False) -> None:
    """List the base models of the catalogue and those prepared here."""
    store, known = _open_store(cache), Catalogue.load(catalogue).entries
    rows = [_describe(name, known.get(name), store) for name in sorted({*known, *store.names()})]
    if as_json:
        print_json({"models": rows})
        return
    columns = ("name", "source", "licence", "prepared", "size", "parity digest")
    print_table("Base models", columns, [[str(row[column]) for column in columns] for row in rows])


@app.command()
def prepare(
    name: Name,
    *,
    source: Annotated[str, typer.Option(help="hf:REPOSITORY@COMMIT or dir:/path, for a base of your own.")] = "",
    verify: Annotated[bool, typer.Option("--verify", help="Hash the files again if it is prepared already.")] = False,
    cache: Cache = None,
    catalogue: OwnCatalogue = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a base model and write it as both services read it; a second run finds it done."""
    store = _open_store(cache)
    entry = find_entry(name, source, catalogue)
    try:
        base = store.find_made_from(entry)
        if verify:
            base.verify()
    except FailedPrecondition:
        entry.pinned_source()  # a base for planning only is refused here, before a child loads the training libraries
        base = PreparedBase.open(_run_child(name, source, store, catalogue, quiet=as_json))
    _print_base(base, as_json=as_json)


@app.command()
def show(
    name: Name,
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Hash the files again.")] = False,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Show one prepared base model: its folder, digests, shape, and what it was made with."""
    base = find_base(name, _open_store(cache).root)
    if verify:
        base.verify()
    _print_base(base, as_json=as_json)


def _open_store(cache: Path | None) -> BaseStore:
    return BaseStore(cache.absolute() if cache else default_cache_root())


def _describe(name: str, entry: CatalogueEntry | None, store: BaseStore) -> dict[str, object]:
    is_prepared = name in store.names()
    base = store.find(name) if is_prepared else None
    return {
        "name": name,
        "source": base.manifest.source if base else str(entry.source or "give --source") if entry else "",
        "licence": base.manifest.licence if base else entry.licence if entry else "",
        "prepared": "yes" if base else "no",
        "size": format_bytes(base.size_bytes) if base else "",
        "parity digest": base.parity_digest[:12] if base else "",
    }


def _print_base(base: PreparedBase, *, as_json: bool) -> None:
    manifest = asdict(base.manifest)
    del manifest["files"]
    if as_json:
        print_json({**manifest, "folder": str(base.folder), "shape": asdict(base.shape)})
        return
    say(f"{base.name} is prepared in {base.folder}")
    say(f"  {format_bytes(base.size_bytes)}, {base.max_tokens:,} tokens at most, {base.manifest.licence}")
    say(f"  original {base.digest[:12]}, parity {base.parity_digest[:12]} ({base.manifest.quantisation})")


def _run_child(name: str, source: str, store: BaseStore, catalogue: Path | None, *, quiet: bool) -> Path:
    """Prepare in a child process of the worker's code, the only one that loads torch; return the base's folder."""
    command = [sys.executable, "-m", "trainer_svc.worker.prepare", name, "--cache", str(store.root)]
    command += ["--source", source] if source else []
    command += ["--catalogue", str(catalogue)] if catalogue else []
    with tempfile.TemporaryFile("w+") as errors, _started(command, errors) as child:
        assert child.stdout is not None, "the child was started with a pipe"  # noqa: S101 - our own invariant
        last = _follow((json.loads(line) for line in child.stdout), quiet=quiet)
        child.wait()
        if last.get("event") == "done":
            return Path(last["folder"])
        raise to_error(last) if last.get("event") == "error" else crashed("Preparing", child.returncode, errors)


@contextmanager
def _started(command: list[str], errors: IO[str]) -> Iterator[subprocess.Popen[str]]:
    """Run the child for the length of the block; whatever ends the block early ends the child."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:  # noqa: S603 - our own program
        try:
            yield child
        finally:
            child.terminate()


def _follow(events: Iterator[dict[str, Any]], *, quiet: bool) -> dict[str, Any]:
    """Show events on standard error until they end, and return the last one."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    last: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bars:
        task = bars.add_task("Starting", total=None)
        for last in events:
            if last["event"] == "waiting":
                bars.update(task, description="Waiting: another process prepares the same base")
            elif last["event"] == "progress":
                total = last["total"] or None
                bars.update(task, description=_PHASES[last["phase"]], completed=last["done"], total=total)
    return last
