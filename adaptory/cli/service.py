"""`adaptory trainer` and `adaptory serve`: start a service in this process's place, so that signals reach it directly."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="TOML file of settings.")]


def run_trainer(config: ConfigOption = None) -> None:
    """Run the service that trains and keeps the registry. Settings are also variables ADAPTORY_TRAINER_..."""
    _become("trainer_svc", config)


def run_server(config: ConfigOption = None) -> None:
    """Run the service that answers. Settings are also variables ADAPTORY_SERVE_..."""
    _become("serve_svc", config)


def _become(module: str, config: Path | None) -> None:
    options = ["--config", str(config)] if config else []
    os.execv(sys.executable, [sys.executable, "-m", module, *options])  # noqa: S606 - our own program, and no shell is wanted
