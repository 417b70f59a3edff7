"""Compile many small models, and hold verdicts and numbers against LiteRT's GPU accelerator.

    python bench/gpu_campaign.py [--only TEXT ...] [--sets onnx torch] [--batches 1 2 3] [--jobs N]
                                 [--cache DIR] [--json FILE] [--markdown FILE]

The sets: the node cases that come with ONNX, and the torch modules of bench/zoo.py and tests/models.py.
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
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import agreement, cases  # noqa: E402
from convkit.compiler import CompileOptions, compile_model  # noqa: E402
from convkit.diagnostics import ConvkitError  # noqa: E402
from convkit.dialects.tflite.graph import Graph  # noqa: E402
from convkit.targets import RuleSeverity  # noqa: E402
from convkit.verify import litert_gpu  # noqa: E402
from convkit.verify.inputs import Binding  # noqa: E402
from convkit.verify.isolate import folded_constants, isolate  # noqa: E402
from convkit.verify.numeric import compare  # noqa: E402

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
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    names = [n for n in cases.names(args.sets, args.batches) if not args.only or any(t in n for t in args.only)]
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
    page = agreement.page([asdict(f) for f in results])
    if args.markdown:
        args.markdown.write_text(page)
    else:
        print(page)


def _examine_chunk(task: tuple[Sequence[str], Path | None]) -> list[Found]:
    names, cache = task
    return examine(cases.load(names, cache))


def examine(models: Iterable[tuple[str, onnx.ModelProto, dict[str, np.ndarray]]]) -> list[Found]:
    """Compile models, ask about all their operators and all of them at once, and compare."""
    results: list[Found] = []
    compiled: list[tuple[Found, Any, dict[str, np.ndarray], list[np.ndarray], list[str]]] = []
    for name, proto, feed in models:
        found = Found(name)
        results.append(found)
        try:
            result = compile_model(proto, "mali-gpu", CompileOptions(verify=False))
            wanted = cases.reference(proto, feed)
        except ConvkitError as refusal:
            found.refused = refusal.diagnostics[0].code
            continue
        except cases.NotRunError:
            found.refused = "onnxruntime cannot run it"
            continue
        except Exception:  # what a campaign looks for
            found.crashed = traceback.format_exc(limit=-3)
            continue
        keys = []
        found.ops = len(result.graph.ops)
        keys = [o.name for o in proto.graph.output]
        compiled.append((found, result, feed, wanted, keys))
    questions: list[litert_gpu.GpuQuestion] = []
    index_of: dict[bytes, int] = {}
    references: dict[int, dict[str, np.ndarray] | None] = {}
    for found, result, feed, _, _ in compiled:
        graph, folded = result.graph, folded_constants(result.graph)
        verdict = result_verdict(graph)
        readers = graph.consumers()
        for op, judged in zip(graph.ops, verdict.ops, strict=True):
            asked = op
            if id(op.outputs[0]) in folded and readers.get(id(op.outputs[0])):
                asked = readers[id(op.outputs[0])][0]
            alone = isolate(asked, folded)
            model = bytes(litert_gpu.serialize(alone))
            if model not in index_of:
                index_of[model] = len(questions)
                feeds = cases.random_feeds(alone)
                references[len(questions)] = cases.interpret(model, alone, feeds)
                questions.append(litert_gpu.GpuQuestion(model, len(alone.ops), feeds))
            worst = max((r.severity for r in judged.reasons if not r.undecided), default=None)
            ours = "accelerated"
            if worst is not None and worst >= RuleSeverity.FALLBACK:
                ours = "reject" if worst == RuleSeverity.REJECT else "fallback"
            elif str(judged.status) == "undecided":
                ours = "undecided"
            found.verdicts.append(
                {
                    "index": judged.index,
                    "code": op.code,
                    "ours": ours,
                    "rules": [r.rule for r in judged.reasons],
                    "question": index_of[model],
                    "shapes": _shapes(op),
                }
            )
    wholes = len(questions)
    for _, result, feed, _, _ in compiled:
        graph = result.graph
        feeds = {
            name: Binding(name, feed[name].shape, feed[name].dtype).to_artifact(feed[name], t.dtype)
            for name, t in zip(graph.signature_inputs, graph.inputs, strict=True)
        }
        questions.append(litert_gpu.GpuQuestion(result.artifact, len(graph.ops), feeds))
    answers = litert_gpu.ask_many(questions, timeout=_SECONDS)
    for number, (found, result, _, wanted, keys) in enumerate(compiled):
        for verdict in found.verdicts:
            question = verdict.pop("question")
            verdict["theirs"], verdict["error"] = cases.word_of(answers[question], references[question])
            if answers[question].words:
                verdict["words"] = answers[question].words[0][:200]
        _whole(found, result.graph, answers[wholes + number], dict(zip(keys, wanted, strict=True)))
    return results


def result_verdict(graph: Graph) -> Any:
    """The verdict of our rules."""
    from convkit.targets import judge, load_target

    return judge(graph, load_target("mali-gpu"))


def _shapes(op: Any) -> str:
    def one(t: Any) -> str:
        if t is None:
            return "-"
        return f"{'const ' if t.is_constant else ''}{t.dtype}{list(t.shape)}"

    options = {k: v for k, v in op.options.items() if v not in (0, False, "NONE", None)}
    return f"{', '.join(map(one, op.inputs))} -> {', '.join(map(one, op.outputs))} {options or ''}"


def _whole(found: Found, graph: Graph, answer: litert_gpu.GpuAnswer, wanted: dict[str, np.ndarray]) -> None:
    found.whole = answer.fully_accelerated
    if answer.outputs is None:
        found.gpu_failed = answer.error or answer.run_error or "no numbers"
        return
    worst = 0.0
    for name, expected in wanted.items():
        given = np.asarray(answer.outputs[name])
        try:
            error = compare(name, np.asarray(expected), given, 1e-5)
        except ValueError as shape:
            found.gpu_failed = str(shape)
            return
        worst = max(worst, float("inf") if error.mismatches else error.max_rel)
    found.gpu_error = worst


if __name__ == "__main__":
    main()
