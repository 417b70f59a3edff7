"""Check many models: each in a process of its own pool, all targets of a model together."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from convkit.cli.console import internal
from convkit.diagnostics import ConvkitError, Diagnostic, ExitCode

if TYPE_CHECKING:
    from convkit.compiler import CompileOptions
    from convkit.report import Report
    from convkit.report.check import Failure

    Found = list[Report | Failure]
    MakeOptions = Callable[[Path], CompileOptions]


def check_one(model: Path, targets: Sequence[str], options: MakeOptions, debug: bool = False) -> Found:
    """The report or the failure of one model for each target; of one failure where it cannot be read."""
    from convkit.compiler import check_model
    from convkit.report.check import Failure
    from convkit.targets import load_target

    try:
        found = check_model(model, [load_target(name) for name in targets], options(model))
    except Exception as problem:
        if debug:
            raise
        failed = problem if isinstance(problem, ConvkitError) else internal(problem)
        return [Failure(str(model), None, failed.diagnostics, failed.exit_code)]
    return [
        Failure(str(model), name, report.diagnostics, report.exit_code)
        if isinstance(report, ConvkitError)
        else report
        for name, report in zip(targets, found, strict=True)
    ]


def check_many(
    models: Sequence[Path], targets: Sequence[str], options: MakeOptions, jobs: int, debug: bool = False
) -> Iterator[tuple[int, Found]]:
    """The index of each model with what was found, as they are done.

    `options` is called in each process, with the model; with one job everything happens in this one. A model
    that kills its process is tried again alone, and is a failure if it does it again.
    """
    if min(jobs, len(models)) <= 1:
        for index, model in enumerate(models):
            yield index, check_one(model, targets, options, debug)
        return
    killed: list[int] = []
    with _pool(min(jobs, len(models))) as pool:
        waiting: dict[Future[Found], int] = {
            pool.submit(check_one, model, targets, options): index for index, model in enumerate(models)
        }
        for done in as_completed(waiting):
            try:
                yield waiting[done], done.result()
            except BrokenProcessPool:
                killed.append(waiting[done])
    for index in killed:
        with _pool(1) as pool:
            try:
                yield index, pool.submit(check_one, models[index], targets, options).result()
            except BrokenProcessPool:
                yield index, [_crash(models[index])]


def default_jobs() -> int:
    """As many processes as there are processors for this one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes: a fork of one with threads may hang."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _crash(model: Path) -> Failure:
    from convkit.report.check import Failure

    said = Diagnostic(
        "worker-died", "the process that checked this model died; it may have run out of memory"
    )
    return Failure(str(model), None, (said,), ExitCode.TOOLCHAIN)
