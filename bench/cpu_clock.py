"""What others took of the machine's cores while something was measured: with much of it, speeds say little."""

import os

import psutil


class CpuClock:
    """Runs from when it was made; a child counts as ours once it has ended."""

    def __init__(self) -> None:
        self._begun = _read_core_seconds()
        self._own_s = _read_own_seconds()

    def measure_foreign_share(self) -> float:
        """Return the share of all cores' time that went to other processes and other virtual machines, from 0 to 1."""
        busy_s, total_s = (now - then for now, then in zip(_read_core_seconds(), self._begun, strict=True))
        return max(0.0, busy_s - (_read_own_seconds() - self._own_s)) / total_s


def _read_core_seconds() -> tuple[float, float]:
    """Return the seconds all cores were busy, with what other virtual machines took of them, and all their seconds."""
    times = psutil.cpu_times()
    busy_s = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
    return busy_s, busy_s + times.idle + times.iowait


def _read_own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
