"""What a compile gives, and how long its stages took."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from convkit.diagnostics import ConvkitError, error
from convkit.dialects.tflite.graph import Graph
from convkit.files import output_folder, write_all
from convkit.report import Artifact, Report, to_json


@dataclass(frozen=True)
class CompileResult:
    """The artifacts by name, what the target loads first (none where a model is judged only), the graph that
    was judged, the model in its final normal form, the report."""

    files: Mapping[str, bytes]
    graph: Graph
    model: ir.Model
    report: Report

    @property
    def artifact(self) -> bytes:
        """What the target loads; nothing where a model is judged only."""
        return next(iter(self.files.values()), b"")

    def save(self, folder: str | os.PathLike[str], stem: str | None = None) -> Report:
        """Write the artifacts and report.json into `folder`, each whole or not at all.

        A single artifact is called after `stem`, where that is given. Returns the report that was written:
        with the artifacts' paths, sizes and SHA-256. Raises ConvkitError "output-not-writable", and
        "judged-only" where there is no artifact.
        """
        if not self.files:
            raise judged_only(self.report.target.name)
        path, files = Path(folder), self.files
        if stem is not None and len(files) == 1:
            files = {stem + Path(name).suffix: content for name, content in files.items()}
        written = tuple(
            Artifact(str(path / name), len(content), hashlib.sha256(content).hexdigest())
            for name, content in files.items()
        )
        report = replace(self.report, artifacts=written)
        with output_folder(path):
            write_all(path, {**files, "report.json": to_json(report).encode()})
        return report


@dataclass
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; stages of one name add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def judged_only(target: str) -> ConvkitError:
    """The refusal to write what is only judged."""
    return error(
        "judged-only",
        f"for {target} a model is judged, not written",
        help=f"convkit check MODEL --target {target}",
    )
