"""`python -m trainer_svc.worker WORKSPACE_DIR`: one attempt at one job, then an exit code."""

import logging
import os
import sys
from pathlib import Path


def main() -> int:
    """Settle what libraries read while they load, then attempt the job."""
    # OpenMP threads spin 300,000 times while they wait for each other. Beside another busy program that uses up their turns and
    # a step takes three times as long, or more; asleep after 3,000 they cost an idle machine nothing (measured on two cores).
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    # Read when PyTorch loads: what a CUDA device gives back as it is freed leaves no holes between segments.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    from trainer_svc.worker.attempt import attempt_job  # noqa: PLC0415 - loads OpenMP

    logging.basicConfig(level=logging.INFO)
    return attempt_job(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
