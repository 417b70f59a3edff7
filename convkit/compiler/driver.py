"""The way of a model through convkit: load, normal form, passes, lower, judge, repair, write, verify."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import onnx_ir as ir

from convkit.compiler import assemble
from convkit.compiler.confirm import confirm, reference_beside
from convkit.compiler.float16 import Float16Result, at_risk, float16_stage
from convkit.compiler.interface import Interface
from convkit.compiler.levers import transfers_and_levers
from convkit.compiler.options import CompileOptions, Quantization
from convkit.compiler.oracle import ask_oracle
from convkit.compiler.quantized import quantize_stage
from convkit.compiler.quantized_onnx import check_scheme, confirm_float, quantize_onnx_stage, written
from convkit.compiler.repair import Candidate, Cure, repair
from convkit.compiler.result import Clock, CompileResult, judged_only
from convkit.compiler.vendor import Vendor
from convkit.compiler.watch import NumbersWatch
from convkit.diagnostics import ConvkitError, error
from convkit.dialects.caffe import lower as lower_to_caffe
from convkit.dialects.onnx import as_graph
from convkit.dialects.tflite.graph import Graph
from convkit.dialects.tflite.layout import LayoutStats, assign_layout
from convkit.dialects.tflite.lowering import lower
from convkit.dialects.tflite.precision import to_fp16_weights
from convkit.dialects.tflite.simplify import simplify
from convkit.dialects.tflite.versions import assign_versions
from convkit.dialects.tflite.writer import serialize
from convkit.frontends import Imported, load_any
from convkit.ir.facts import constant
from convkit.ir.normal import normalize
from convkit.passes.pipeline import PassManager, cleanup_pipeline, default_pipeline
from convkit.quantize.onnx import provisional_model
from convkit.quantize.quantizer import provisional
from convkit.report import Finding, OracleAnswer, QuantizationSummary, Report
from convkit.rewrite import RewriteStats, apply_rewrites, get_rewrite
from convkit.targets import QdqScheme, Target, judge, load_target
from convkit.verify.numeric import ReferenceRun
from convkit.verify.runners import RunError

Lowered: TypeAlias = tuple[Graph, Graph, LayoutStats]
"""A float graph, the graph to judge, and its layout."""


Form = tuple[str, tuple[str, ...]]
"""What a target reads: its dialect, and the rewrites that give the spelling it runs best."""


def form_of(target: Target) -> Form:
    """The form a target is given; targets of one form share the lowering."""
    return target.dialect, target.pipeline


class Compilation:
    """One model on its way to one target; the stages in the order they run."""

    def __init__(self, source: Any, target: str | Target, options: CompileOptions) -> None:
        self.source = source
        self.options = options
        self.clock = Clock()
        self.spelled: dict[Form, RewriteStats] = {}
        self.float16: Float16Result | None = None
        self.target = load_target(target) if isinstance(target, str) else target
        self.vendor = Vendor.of(self.target, options)

    def load(self) -> Imported:
        """The model as imported, every origin noted."""
        with self.clock.stage("import"):
            imported = load_any(self.source, self.options.importing)
            constants = imported.model.graph.initializers
            frozen = (name for name in self.options.freeze if name in constants)
            self.frozen = {name: constant(constants[name]) for name in frozen}
        return imported

    def prepare(self, model: ir.Model) -> PassManager:
        """Bring `model` to normal form and run the default and the user's passes."""
        with self.clock.stage("import"):
            normalize(model)
        options = self.options
        manager = PassManager(
            [*default_pipeline(options.allow), *options.passes],
            print_after=options.print_after,
            watch=NumbersWatch(options.bisect) if options.verify_each or options.bisect else None,
        )
        with self.clock.stage("passes"):
            manager.run(model)
        return manager

    def applied(self, manager: PassManager) -> RewriteStats:
        """Every rewrite of the pipeline, then those that gave the target its spelling."""
        spelled = self.spelled.get(form_of(self.target), RewriteStats())
        cured = self.float16.stats.applications if self.float16 is not None else []
        return RewriteStats([*manager.stats.applications, *cured, *spelled.applications])

    def cure_float16(self, model: ir.Model, inputs: Callable[[], ReferenceRun]) -> ir.Model:
        """The model as a target that computes in float16 needs it; `self.float16` tells what was found."""
        if self.target.precision != "float16" or not self.options.verify or not at_risk(model):
            return model
        with self.clock.stage("float16"):
            given = inputs()
            try:
                self.float16 = float16_stage(model, [given.inputs], given.described)
            except RunError:  # onnxruntime lacks an operator: nothing can be emulated
                return model
        return self.float16.model

    @property
    def writes(self) -> bool:
        """Whether a file is written; what reads ONNX and has no backend is judged only, or quantized."""
        return self.target.dialect == "tflite" or self.vendor is not None or self.qdq is not None

    @property
    def qdq(self) -> QdqScheme | None:
        """How the model is quantized for a target that reads ONNX; None where it is not, or not by us."""
        wanted = self.options.quantization
        return None if wanted is None else self.target.schemes.get(wanted.settings.scheme)

    def need_quantizer(self) -> None:
        """Raise ConvkitError "scheme-not-taken" for a scheme that the target does not take, "not-quantized"
        where nobody quantizes for it so."""
        wanted = self.options.quantization
        if wanted is None:
            return
        check_scheme(self.target, wanted)
        if self.target.dialect == "tflite":
            return
        if self.qdq is not None:
            if self.vendor is not None and wanted.settings.io == "int":
                raise _float_io(self.target.name)
            return
        if self.vendor is None or not self.vendor.quantizes:
            raise _not_quantized(self.target.name)

    def spelled_for(self, model: ir.Model, form: Form) -> ir.Model:
        """The model in the spelling that a target runs best."""
        if not form[1]:
            return model
        model = model.clone()
        self.spelled[form] = apply_rewrites(model.graph, [get_rewrite(name) for name in form[1]])
        return model

    def lowered(self, model: ir.Model, form: Form) -> Lowered:
        """The float graph of a model in normal form, and the graph to judge: with quantization, one that has
        the final operators and types, and made-up ranges. What reads ONNX judges the normal form itself."""
        dialect = form[0]
        with self.clock.stage("lower"):
            model = self.spelled_for(model, form)
            if dialect == "onnx":
                floats = as_graph(model)
                wanted, scheme = self.options.quantization, self.qdq
                if wanted is None or scheme is None:
                    return floats, floats, LayoutStats(0, 0, 0, 0)
                judged = as_graph(provisional_model(model, wanted.settings, scheme))
                return floats, judged, LayoutStats(0, 0, 0, 0)
            if dialect == "caffe":
                view = lower_to_caffe(model)
                return view, view, LayoutStats(0, 0, 0, 0)
            floats, layout = lower_to_tflite(model, self.options)
            graph = floats
            if self.options.quantization is not None:
                graph = provisional(floats, self.options.quantization.settings)
                assign_versions(graph)
        return floats, graph, layout

    def lower(self, model: ir.Model) -> Candidate:
        """Lower a model in normal form to the operators that the target reads, and judge them."""
        floats, graph, layout = self.lowered(model, form_of(self.target))
        with self.clock.stage("judge"):
            verdict = judge(graph, self.target)
        return Candidate(model, floats, graph, layout, verdict)

    def quantize(
        self, candidate: Candidate, interface: Interface
    ) -> tuple[Candidate, QuantizationSummary | None]:
        """The candidate quantized for good, where that is asked for."""
        wanted = self.options.quantization
        if wanted is None or self.options.judge_only:
            return candidate, None
        if self.target.dialect != "tflite":
            return self.quantize_onnx(wanted, candidate, interface)
        with self.clock.stage("quantize"):
            quantized, summary = quantize_stage(wanted, candidate.floats, interface)
            assign_versions(quantized.graph)
        with self.clock.stage("judge"):
            verdict = judge(quantized.graph, self.target)
        return replace(candidate, graph=quantized.graph, verdict=verdict), summary

    def quantize_onnx(
        self, wanted: Quantization, candidate: Candidate, interface: Interface
    ) -> tuple[Candidate, QuantizationSummary | None]:
        """As `quantize`, where it is convkit that quantizes for the target."""
        scheme = self.qdq
        if scheme is None:
            return candidate, None
        with self.clock.stage("quantize"):
            model = self.spelled_for(candidate.model, form_of(self.target))
            quantized, summary = quantize_onnx_stage(wanted, model, scheme, interface)
        with self.clock.stage("judge"):
            graph = as_graph(quantized.model)
            verdict = judge(graph, self.target)
        return replace(candidate, model=quantized.model, graph=graph, verdict=verdict), summary

    def rebuild(self, changed: ir.Model) -> Candidate:
        """Clean up a model that a cure has changed, lower and judge it."""
        with self.clock.stage("passes"):
            PassManager(cleanup_pipeline(self.options.allow)).run(changed)
        return self.lower(changed)

    def run(self) -> CompileResult:
        """All stages."""
        options = self.options
        self.need_quantizer()
        if not self.writes and (options.verify or options.oracle):
            raise judged_only(self.target.name)
        if self.vendor is not None:
            self.vendor.need()
        imported = self.load()
        model = imported.model
        opset = model.graph.opset_imports.get("")
        with reference_beside(imported.reference, model, options, self.frozen) as reference:
            manager = self.prepare(model)
            interface = Interface.of(model.graph)
            model = self.cure_float16(model, reference)
            candidate, cures = repair(self.lower(model), self.rebuild, options.allow)
            stored = interface.stored(candidate.layout)
            single, (candidate, quantization) = candidate.model, self.quantize(candidate, stored)
            graph = candidate.graph
            tflite = self.target.dialect == "tflite"
            with self.clock.stage("write"):
                artifact = bytes(serialize(graph)) if tflite else b""
            files = {f"{options.stem}.tflite": artifact} if tflite else {}
            if self.qdq is not None and not options.judge_only:
                files = {f"{options.stem}.onnx": written(candidate.model, self.qdq)}
            verification = oracle = entry = None
            if options.verify and tflite:
                with self.clock.stage("verify"):
                    floats = artifact if graph is candidate.floats else bytes(serialize(candidate.floats))
                    verification = confirm(reference(), candidate, floats, stored, options)
            elif options.verify and self.qdq is not None:
                with self.clock.stage("verify"):
                    verification = confirm_float(single, reference())
            if options.oracle:
                with self.clock.stage("oracle"):
                    oracle = self.ask(candidate, artifact, stored, reference())
            if self.vendor is not None and not options.judge_only:
                with self.clock.stage(self.vendor.backend.name):
                    made = self.vendor.build(self.as_read(candidate), artifact, stored, reference())
                files, entry = dict(made.files), made.entry
                verification, oracle = made.verification or verification, made.oracle or oracle
        report = self.report(imported, opset, manager, candidate, cures)
        report = replace(
            report,
            verification=verification,
            quantization=quantization,
            float16=self.float16.summary if self.float16 is not None else None,
            oracle=oracle if isinstance(oracle, OracleAnswer) else None,
            backend=entry,
            findings=(
                *assemble.doubts(verification),
                *(self.float16.findings if self.float16 is not None else ()),
                *assemble.remarks(oracle),
            ),
        )
        return CompileResult(files, graph, candidate.model, report)

    def as_read(self, candidate: Candidate) -> Candidate:
        """The candidate with the model as the target reads it: in its spelling, node for node as judged."""
        if self.qdq is not None:
            return candidate  # quantized from that spelling
        return replace(candidate, model=self.spelled_for(candidate.model, form_of(self.target)))

    def ask(
        self, candidate: Candidate, artifact: bytes, interface: Interface, reference: ReferenceRun
    ) -> OracleAnswer | Finding | None:
        """The target's oracle, or the vendor's tool; one that builds anyhow answers then."""
        if self.target.oracle is None and self.vendor is not None:
            if not self.options.judge_only:
                return None
            return self.vendor.place(self.as_read(candidate), artifact, interface)
        return ask_oracle(self.target, candidate, interface, reference)

    def report(
        self,
        imported: Imported,
        opset: int | None,
        manager: PassManager,
        candidate: Candidate,
        cures: Sequence[Cure],
    ) -> Report:
        """What was found about a candidate; `opset` is that of the model as imported."""
        graph, layout, verdict = candidate.graph, candidate.layout, candidate.verdict
        inputs, outputs = assemble.interface(graph, layout)
        ops = assemble.op_entries(graph, verdict)
        transfers, levers = transfers_and_levers(graph, verdict, self.target, ops)
        return Report(
            model=assemble.identify_model(self.source, imported.format, candidate.model, opset),
            target=assemble.identify_target(self.target),
            ops=ops,
            inputs=inputs,
            outputs=outputs,
            partitions=assemble.partition_entries(graph, verdict),
            transfers=transfers,
            levers=levers,
            rewrites=assemble.rewrite_entries(self.applied(manager), cures),
            timings=self.clock.seconds,
            options=self.options.described(),
        )

    def lowered_for(self, forms: Collection[Form], model: ir.Model) -> dict[Form, Lowered | ConvkitError]:
        """The model in each form, or why it has none there; raises where it has none in any."""
        found: dict[Form, Lowered | ConvkitError] = {}
        # TFLite last: lowering to it widens the model.
        for form in sorted(forms, key=lambda form: (form[0] == "tflite", form)):
            try:
                found[form] = self.lowered(model, form)
            except ConvkitError as problem:
                found[form] = problem
        failed = [problem for problem in found.values() if isinstance(problem, ConvkitError)]
        if failed and len(failed) == len(found):
            raise failed[0]
        return found

    def check(self, targets: Iterable[Target]) -> Iterator[Report | ConvkitError]:
        """What each target makes of the model: imported, normalised and lowered once for all of them.

        Nothing is run. An error that has to do with one target stands in the place of its report; one in
        the model is raised.
        """
        imported = self.load()
        opset = imported.model.graph.opset_imports.get("")
        manager = self.prepare(imported.model)
        targets = list(targets)
        found = self.lowered_for({form_of(target) for target in targets}, imported.model)
        shared = self.clock.seconds
        for self.target in targets:
            self.vendor = Vendor.of(self.target, self.options)
            self.clock = Clock(dict(shared))
            lowered = found[form_of(self.target)]
            if isinstance(lowered, ConvkitError):
                yield lowered
                continue
            floats, graph, layout = lowered
            try:
                self.need_quantizer()
                with self.clock.stage("judge"):
                    verdict = judge(graph, self.target)
                first = Candidate(imported.model, floats, graph, layout, verdict)
                candidate, cures = repair(first, self.rebuild, self.options.allow)
                yield self.report(imported, opset, manager, candidate, cures)
            except ConvkitError as problem:
                yield problem


def _float_io(target: str) -> ConvkitError:
    return error(
        "not-quantized",
        f"the file for {target} has a float interface: its tool is verified on the model's own inputs",
        help="leave --io out, or write the Q/DQ model alone by --no-vendor",
    )


def _not_quantized(target: str) -> ConvkitError:
    return error(
        "not-quantized",
        f"target {target} reads ONNX, and neither convkit nor its backend quantizes that so",
        help="leave --quantize out, or quantize by the vendor's own tool",
    )


def lower_to_tflite(model: ir.Model, options: CompileOptions | None = None) -> tuple[Graph, LayoutStats]:
    """Lower a model in normal form to the TFLite graph that is written; `model` is widened to float32."""
    options = options or CompileOptions()
    graph, layout = assign_layout(simplify(lower(model)), options.io_layout)
    graph = simplify(graph)
    if options.precision == "fp16":
        to_fp16_weights(graph)
    assign_versions(graph)
    return graph, layout


def compile_model(source: Any, target: str | Target, options: CompileOptions | None = None) -> CompileResult:
    """Compile a model of any format that `convkit.frontends.load_any` takes for a target.

    Nothing is written; `CompileResult.artifact` is the file's contents. Raises ConvkitError for bad
    input, for operators that cannot be lowered, and "wrong-numbers" where the artifact does not
    compute the model's function.
    """
    return Compilation(source, target, options or CompileOptions()).run()


def check_model(
    source: Any, targets: Sequence[Target], options: CompileOptions | None = None
) -> list[Report | ConvkitError]:
    """What each of `targets` (at least one) makes of a model: its report, or why there is none.

    Nothing is written, and nothing is run but what `options.oracle` asks for. Raises ConvkitError for a
    model that cannot be read or lowered at all.
    """
    options = replace(options or CompileOptions(), verify=False, judge_only=True)
    if options.oracle:
        return [compile_model(source, target, options).report for target in targets]
    return list(Compilation(source, targets[0], options).check(targets))
