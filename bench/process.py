"""Whole processes as a user starts them: wall time and peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds of wall time, peak resident bytes of its largest process."""

    seconds: float
    peak: int
    exit_code: int
    said: str = ""


def _as_installed() -> dict[str, str]:
    """The environment, with compiled bytecode kept between runs as every installed package has it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(command: Sequence[str | Path], cwd: Path | None = None) -> Run:
    """Start `command`, wait, and measure. Output is kept only of a failure (its last lines)."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=_as_installed(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    seconds = time.perf_counter() - start
    return Run(seconds, usage.ru_maxrss * 1024, code, said[-2000:] if code else "")


def interleaved(jobs: dict[str, Callable[[], Run]], repeat: int) -> dict[str, list[Run]]:
    """Run every job once unmeasured, then `repeat` times in turns: a slow minute hits all alike."""
    for job in jobs.values():
        job()
    runs: dict[str, list[Run]] = {name: [] for name in jobs}
    for _ in range(repeat):
        for name, job in jobs.items():
            runs[name].append(job())
    return runs


def median_seconds(runs: Sequence[Run]) -> float:
    """Median wall time of the successful runs; NaN if there is none."""
    good = [r.seconds for r in runs if r.exit_code == 0]
    return statistics.median(good) if good else float("nan")


def peak_bytes(runs: Sequence[Run]) -> int:
    """The highest peak of all runs."""
    return max(r.peak for r in runs)
