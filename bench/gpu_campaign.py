"""Compile many small models, and hold verdicts and numbers against LiteRT's GPU accelerator.

    python -m bench.gpu_campaign [--only TEXT ...] [--sets onnx torch] [--batches 1 2 3] [--jobs N]
                                 [--cache DIR] [--json FILE]

What is found goes into bench/agreement.json (unless `--only` chose some) and docs/agreement.md. The sets: the
node cases that come with ONNX, and the torch modules of bench/zoo.py and tests/models.py.
Every operator is asked about on its own and computed there on random inputs, every model as a whole on its
own inputs. A verdict agrees when what the rules refuse is refused, and what they reject is computed wrong
or stops the accelerator.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bench import agreement, cases
from convkit.compiler import CompileOptions, CompileResult, compile_model
from convkit.diagnostics import ConvkitError
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.targets import OpVerdict, RuleSeverity, Status, judge, load_target
from convkit.verify import litert_gpu
from convkit.verify.inputs import Binding
from convkit.verify.isolate import folded_constants, isolate
from convkit.verify.numeric import compare

_TARGET = "mali-gpu"
_TRUTH = {"taken": "accelerated", "refused": "fallback", "wrong": "reject", "fails": "reject"}
_CHUNK = 12
_SECONDS = 180.0


@dataclass
class Found:
    """What came out of one model; `refused`, `crashed` and `wrong` hold words, empty where all is well."""

    name: str
    refused: str = ""
    crashed: str = ""
    ops: int = 0
    whole: bool = False
    cpu_error: float | None = None
    gpu_error: float | None = None
    gpu_failed: str = ""
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    """Per operator: index, code, `ours` (accelerated, fallback, reject), `theirs` (taken, refused, wrong,
    fails), the rules that matched, shapes."""


def main() -> None:
    """Run the campaign and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--sets", nargs="*", default=["onnx", "torch"])
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="keep exported models in this folder")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = [
        n for n in cases.names(args.sets, args.batches) if not args.only or any(t in n for t in args.only)
    ]
    chunks = [(names[i : i + _CHUNK], args.cache) for i in range(0, len(names), _CHUNK)]
    results: list[Found] = []
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(args.jobs, maxtasksperchild=4) as pool:
        for found in pool.imap_unordered(_examine_chunk, chunks):
            results += found
            seconds = time.perf_counter() - start
            print(f"{len(results)}/{len(names)} {seconds:.0f} s", file=sys.stderr, flush=True)
            if args.json:
                args.json.write_text(json.dumps([asdict(f) for f in results], indent=1))
    results.sort(key=lambda f: f.name)
    records = {f.name: record(f) for f in results}
    if args.only:
        print(json.dumps(records, indent=1))
    else:
        agreement.store("litert-gpu", _TARGET, records)
        agreement.write_page()


def record(found: Found) -> agreement.Record:
    """What came out of one model, as bench/agreement.json keeps it."""
    if found.crashed or found.refused:
        kind = "crashed" if found.crashed else "refused"
        return {kind: (found.crashed or found.refused).splitlines()[-1]}
    ours = [v for v in found.verdicts if v["ours"] != "accelerated"]
    both = sum(v["theirs"] != "taken" for v in ours)
    differ = [v for v in found.verdicts if v["ours"] != _TRUTH[v["theirs"]]]
    return {
        "ops": found.ops,
        "ours": len(ours),
        "theirs": sum(v["theirs"] != "taken" for v in found.verdicts),
        "both": both,
        "whole": found.whole,
    } | agreement.optional(
        off=dict(Counter(f"{v['code']}: {', '.join(v['rules'])}" for v in ours)),
        differ=[_sentence(v) for v in differ],
        error=found.gpu_error,
        reference_error=found.cpu_error,
        failed=found.gpu_failed,
        version=version("ai-edge-litert"),
    )


def _sentence(v: dict[str, Any]) -> str:
    error = f" (off by {v['error']:.1e})" if v["error"] else ""
    return (
        f"operator {v['index']} ({v['code']}): we say {v['ours']}, it is {v['theirs']}{error}; {v['shapes']}"
        f"{v['words'] and ': '}{v['words']}"
    )


def _examine_chunk(task: tuple[Sequence[str], Path | None]) -> list[Found]:
    names, cache = task
    return examine(cases.load(names, cache))


def examine(models: Iterable[cases.Case]) -> list[Found]:
    """Compile models, ask about all their operators and all of them at once, and compare."""
    results: list[Found] = []
    compiled: list[_Compiled] = []
    for name, proto, feed in models:
        found = Found(name)
        results.append(found)
        try:
            result = compile_model(proto, _TARGET, CompileOptions(verify=False))
            wanted = cases.reference(proto, feed)
            feeds = _stored(result.graph, feed)
        except ConvkitError as refusal:
            found.refused = refusal.diagnostics[0].code
        except cases.NotRunError:
            found.refused = "onnxruntime cannot run it"
        except Exception:  # what a campaign looks for
            found.crashed = traceback.format_exc(limit=-3)
        else:
            found.ops = len(result.graph.ops)
            compiled.append(_Compiled(found, result, feeds, wanted))
    asked = _Asked()
    numbers = [[asked.about(op, c.result.graph) for op in c.result.graph.ops] for c in compiled]
    wholes = [litert_gpu.GpuQuestion(c.result.artifact, c.found.ops, c.feeds) for c in compiled]
    answers = litert_gpu.ask_many([*asked.questions, *wholes], timeout=_SECONDS)
    for c, places, whole in zip(compiled, numbers, answers[len(asked.questions) :], strict=True):
        judged = judge(c.result.graph, load_target(_TARGET)).ops
        for op, verdict, place in zip(c.result.graph.ops, judged, places, strict=True):
            c.found.verdicts.append(_entry(op, verdict, answers[place], asked.references[place]))
        _whole(c, whole)
    return results


@dataclass(frozen=True)
class _Compiled:
    """A model's compilation, its inputs as the artifact takes them, what onnxruntime answers."""

    found: Found
    result: CompileResult
    feeds: dict[str, np.ndarray]
    wanted: list[np.ndarray]


@dataclass
class _Asked:
    """Questions about single operators, each asked once, with what the interpreter answers."""

    questions: list[litert_gpu.GpuQuestion] = field(default_factory=list)
    references: list[dict[str, np.ndarray] | None] = field(default_factory=list)
    places: dict[bytes, int] = field(default_factory=dict)

    def about(self, op: Op, graph: Graph) -> int:
        """The number of the question about `op`; a DEQUANTIZE of a constant has its first reader's."""
        folded = folded_constants(graph)
        if id(op.outputs[0]) in folded:
            op = graph.consumers().get(id(op.outputs[0]), [op])[0]
        alone = isolate(op, folded)
        model = bytes(litert_gpu.serialize(alone))
        if model not in self.places:
            self.places[model] = len(self.questions)
            feeds = cases.random_feeds(alone)
            self.references.append(cases.interpret(model, alone, feeds))
            self.questions.append(litert_gpu.GpuQuestion(model, len(alone.ops), feeds))
        return self.places[model]


def _stored(graph: Graph, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs with the types that the artifact takes."""
    pairs = zip(graph.signature_inputs, graph.inputs, strict=True)
    return {n: Binding(n, feed[n].shape, feed[n].dtype).to_artifact(feed[n], t.dtype) for n, t in pairs}


def _entry(
    op: Op, judged: OpVerdict, answer: litert_gpu.GpuAnswer, reference: dict[str, np.ndarray] | None
) -> dict[str, Any]:
    worst = max((r.severity for r in judged.reasons if not r.undecided), default=RuleSeverity.INFO)
    ours = "fallback" if worst >= RuleSeverity.FALLBACK else "accelerated"
    if worst == RuleSeverity.REJECT:
        ours = "reject"
    elif judged.status is Status.UNDECIDED:
        ours = "undecided"
    theirs, error = cases.word_of(answer, reference)
    rules = [r.rule for r in judged.reasons]
    entry = {"index": judged.index, "code": op.code, "ours": ours, "theirs": theirs, "rules": rules}
    return entry | {"error": error, "words": " ".join(answer.words)[:200], "shapes": _shapes(op)}


def _shapes(op: Op) -> str:
    def one(t: Tensor | None) -> str:
        if t is None:
            return "-"
        return f"{'const ' if t.is_constant else ''}{t.dtype}{list(t.shape)}"

    options = {k: v for k, v in op.options.items() if v not in (0, False, "NONE", None)}
    return f"{', '.join(map(one, op.inputs))} -> {', '.join(map(one, op.outputs))} {options or ''}"


def _whole(c: _Compiled, answer: litert_gpu.GpuAnswer) -> None:
    """The whole model's numbers, where the interpreter computes the same as onnxruntime."""
    c.found.whole = answer.fully_accelerated
    graph = c.result.graph
    cpu = cases.interpret(c.result.artifact, graph, c.feeds)
    if answer.outputs is None:
        c.found.gpu_failed = answer.error or answer.run_error or "no numbers"
    elif cpu is not None:
        given = [np.asarray(answer.outputs[name]) for name in graph.signature_outputs]
        c.found.gpu_error = _worst(c.wanted, given)
        c.found.cpu_error = _worst(c.wanted, [cpu[name] for name in graph.signature_outputs])


def _worst(wanted: Sequence[np.ndarray], given: Sequence[np.ndarray]) -> float:
    found = [compare("", np.asarray(w), g.reshape(w.shape), 1e-5) for w, g in zip(wanted, given, strict=True)]
    return max(float("inf") if f.mismatches else f.max_rel for f in found)


if __name__ == "__main__":
    main()
