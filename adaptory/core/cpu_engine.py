"""What vLLM is told where it computes on the CPU; `adaptory bench engine` measures it, docs/measurements.md has the figures."""

import os

# What vLLM reads; what an operator has put there stands.
CORES_VARIABLE = "VLLM_CPU_OMP_THREADS_BIND"
# vLLM leaves one core to its scheduler. Of two that is half the machine, and the scheduler needs 3 % of one. With more cores it was
# not measured, and there one is a smaller part.
_FEW_CORES = 2


def choose_cores() -> str:
    """Return a list of cores, or "auto" to leave the choice to vLLM."""
    if told := os.environ.get(CORES_VARIABLE):
        return told
    cores = sorted(os.sched_getaffinity(0))
    return ",".join(map(str, cores)) if len(cores) <= _FEW_CORES else "auto"
