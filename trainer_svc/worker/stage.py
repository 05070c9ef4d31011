"""Leaves the adapter's files for the runner: whole and checked, or not at all."""

import shutil
from pathlib import Path

from adaptory.core.adapter_check import AdapterLimits, AdapterReport, inspect_adapter
from adaptory.core.base_shape import BaseShape
from trainer_svc.worker.adapter import Adapter


def stage_adapter(adapter: Adapter, folder: Path, shape: BaseShape, max_rank: int) -> AdapterReport:
    """Write the adapter aside, judge it as serve_svc will, then name it `folder`; values alone that are at fault are left there, too.

    Raises AdapterRejected, and leaves nothing behind, when it is no adapter for this base.
    """
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        adapter.save(aside)
        report = inspect_adapter(aside, shape, AdapterLimits(max_rank=max_rank))
        aside.rename(folder)
    except BaseException:
        # A cancel may come at any line: no half-written adapter stays.
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return report
