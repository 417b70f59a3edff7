"""The way of a model through convkit: load, normal form, passes, lower, judge, repair, write, verify."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.compiler.assemble import assemble_report, interface_bindings
from convkit.compiler.options import CompileOptions
from convkit.compiler.repair import Candidate, Cure, repair
from convkit.diagnostics import ConvkitError, Diagnostic, error
from convkit.dialects.tflite.graph import Graph
from convkit.dialects.tflite.layout import LayoutStats, assign_layout
from convkit.dialects.tflite.lowering import lower
from convkit.dialects.tflite.precision import to_fp16_weights
from convkit.dialects.tflite.simplify import simplify
from convkit.dialects.tflite.versions import assign_versions
from convkit.dialects.tflite.writer import serialize
from convkit.frontends.onnx import load_onnx
from convkit.ir.normal import normalize
from convkit.passes.pipeline import PassManager, cleanup_pipeline, default_pipeline
from convkit.report import Report
from convkit.targets import Target, load_target
from convkit.targets.judge import judge


@dataclass(frozen=True)
class Lowered:
    """A TFLite graph, and which interface tensors are channels last in it."""

    graph: Graph
    layout: LayoutStats


@dataclass(frozen=True)
class CompileResult:
    """The artifact's bytes, the graph they hold, the model in its final normal form, the report."""

    artifact: memoryview
    graph: Graph
    model: ir.Model
    report: Report


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


def lower_and_judge(model: ir.Model, target: Target, options: CompileOptions, clock: Clock) -> Candidate:
    """Lower a model in normal form for `target`, and judge the result."""
    with clock.stage("lower"):
        graph = simplify(lower(model))
        graph, layout = assign_layout(graph, options.io_layout)
        graph = simplify(graph)
        if options.precision == "fp16":
            graph = to_fp16_weights(graph)
        assign_versions(graph)
    with clock.stage("judge"):
        verdict = judge(graph, target)
    return Candidate(model, Lowered(graph, layout), verdict)


def prepare(source: Any, options: CompileOptions, clock: Clock) -> tuple[ir.Model, PassManager]:
    """Load `source`, bring it to normal form and run the default and the user's passes."""
    with clock.stage("import"):
        model = load_onnx(source, options.input_shapes)
        normalize(model)
    manager = PassManager(
        [*default_pipeline(options.allow), *options.passes],
        print_after=options.print_after,
        verify_each=options.verify_each,
        bisect=options.bisect,
    )
    with clock.stage("passes"):
        manager.run(model)
    return model, manager


def compile_model(
    source: Any, target: str | Target, options: CompileOptions | None = None
) -> CompileResult:
    """Compile an ONNX model (path, bytes, ModelProto or onnx_ir.Model) for a target.

    Nothing is written; `CompileResult.artifact` is the file's contents. Raises ConvkitError for bad
    input, for operators that cannot be lowered, and "verification-failed" where the artifact does
    not compute the model's function.
    """
    options = options or CompileOptions()
    chosen = load_target(target) if isinstance(target, str) else target
    clock = Clock()
    model, manager = prepare(source, options, clock)
    candidate = lower_and_judge(model, chosen, options, clock)

    def rebuild(changed: ir.Model) -> Candidate:
        with clock.stage("passes"):
            PassManager(cleanup_pipeline(options.allow)).run(changed)
        return lower_and_judge(changed, chosen, options, clock)

    candidate, cures = repair(candidate, rebuild, options.allow)
    lowered = candidate.lowered
    assert isinstance(lowered, Lowered)
    with clock.stage("write"):
        artifact = serialize(lowered.graph)
    return _finish(source, chosen, options, candidate, lowered, artifact, cures, manager, clock)
