"""Runs one preparation: `python -m trainer_svc.worker.prepare NAME [--source SOURCE] [--cache DIR] [--catalogue FILE]`.

Standard output carries the events of `progress`, nothing else. Exit code 0 with a `done` event, 1 with an `error` event.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from adaptory.core.base_model import BaseStore, default_cache_root
from adaptory.core.catalogue import find_entry
from adaptory.core.errors import ServiceError
from trainer_svc.worker.prepare.progress import Progress


def main() -> int:
    """Prepare the base the arguments name."""
    arguments = _parse_arguments()
    # Libraries print to standard output now and then; what is for the parent must stay clean.
    progress, sys.stdout = Progress(sys.stdout), sys.stderr
    try:
        from trainer_svc.worker.prepare.build import prepare_base  # noqa: PLC0415 - seconds; a bad name fails before it

        entry = find_entry(arguments.name, arguments.source, arguments.catalogue)
        base = prepare_base(entry, BaseStore(arguments.cache), progress, datetime.now(UTC))
    except ServiceError as error:
        progress.fail(error.status.name, error.reason, error.message, error.metadata)
        return 1
    except ImportError as error:
        message = f"Preparing a base needs the training libraries ({error}); run: pip install 'adaptory[train]'"
        progress.fail("FAILED_PRECONDITION", "TRAINING_STACK_MISSING", message, {})
        return 1
    progress.finish(str(base.folder))
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer_svc.worker.prepare")
    parser.add_argument("name")
    parser.add_argument("--source", default="")
    parser.add_argument("--cache", type=Path, default=default_cache_root())
    parser.add_argument("--catalogue", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
