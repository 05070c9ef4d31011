"""Which cores the engine computes on, where it has no GPU."""

import os

# What vLLM reads; who sets it keeps it.
CORES_VARIABLE = "VLLM_CPU_OMP_THREADS_BIND"
# vLLM leaves one core to its scheduler. Of two that is half the machine, and the scheduler needs 3 % of one (`adaptory bench engine`,
# docs/measurements.md). With more cores it was not measured, and there one is a smaller part.
_FEW_CORES = 2


def choose_cores() -> str:
    """Return what to tell vLLM: a list of cores, or "auto" to leave the choice to it."""
    if told := os.environ.get(CORES_VARIABLE):
        return told
    cores = sorted(os.sched_getaffinity(0))
    return ",".join(map(str, cores)) if len(cores) <= _FEW_CORES else "auto"
