"""Ask the vendor's own delegate about an artifact, and hold our verdict against its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from convkit.compiler.interface import Interface
from convkit.compiler.repair import Candidate
from convkit.report import Finding, OracleAnswer, OutputError
from convkit.targets import OpVerdict, Status, Target
from convkit.verify.numeric import FLOAT16_TOLERANCE, ReferenceRun, compare


def ask_oracle(
    target: Target, candidate: Candidate, interface: Interface, reference: ReferenceRun
) -> OracleAnswer | Finding:
    """What the target's oracle says of each operator and of the whole; a Finding where none can be asked."""
    if target.oracle == "litert-gpu":
        return _ask_gpu(candidate, interface, reference)
    if target.oracle == "xnnpack":
        return _ask_xnnpack(candidate)
    return Finding(
        "no-oracle", f"target {target.name} has no oracle that runs on a PC; its rules stand alone"
    )


@dataclass(frozen=True)
class Said:
    """What an oracle says of one operator: whether it takes it, whether it then fails, and its words."""

    taken: bool
    fails: bool = False
    words: str = ""


def _ask_gpu(candidate: Candidate, interface: Interface, reference: ReferenceRun) -> OracleAnswer | Finding:
    """LiteRT's GPU accelerator; it also computes the outputs, which are compared with the reference's."""
    from convkit.verify import litert_gpu

    graph = candidate.graph
    feeds = None  # a quantized artifact is asked for its operators only: its numbers have their own check
    if graph is candidate.floats:
        feeds = {
            name: b.to_artifact(reference.inputs[b.name], tensor.dtype)
            for name, b, tensor in zip(graph.signature_inputs, interface.inputs, graph.inputs, strict=True)
        }
    whole, each = litert_gpu.ask_all(graph, feeds)
    if not whole.available:
        return Finding("oracle-unavailable", f"the oracle litert-gpu could not be asked: {whole.reason}")
    outputs: tuple[OutputError, ...] = ()
    if whole.outputs is not None:
        computed = [np.asarray(whole.outputs[name]) for name in graph.signature_outputs]
        outputs = tuple(
            compare(b.name, reference.outputs[b.name], b.from_artifact(array), FLOAT16_TOLERANCE)
            for b, array in zip(interface.outputs, computed, strict=True)
        )
    said = [Said(not answer.refused, answer.error is not None, "; ".join(answer.words)) for answer in each]
    return answer_of("litert-gpu", candidate, said, whole.fully_accelerated, whole.ops_on_gpu, outputs)


def _ask_xnnpack(candidate: Candidate) -> OracleAnswer | Finding:
    """The XNNPACK delegate inside LiteRT's interpreter."""
    from convkit.verify import xnnpack

    answer = xnnpack.ask(candidate.graph)
    if answer.error is not None:
        return Finding("oracle-unavailable", f"the oracle xnnpack could not be asked: {answer.error}")
    said = [Said(taken) for taken in answer.taken]
    return answer_of("xnnpack", candidate, said, all(answer.taken), sum(answer.taken))


def answer_of(
    name: str,
    candidate: Candidate,
    said: Sequence[Said | None],
    whole: bool | None = None,
    accelerated: int | None = None,
    outputs: tuple[OutputError, ...] = (),
    tool: str | None = None,
) -> OracleAnswer:
    """What an oracle says of each operator (None: nothing) against our verdict; `whole` and `accelerated` are
    its word on the graph, by default those on its operators; `tool` is its version, by default LiteRT's."""
    verdicts = candidate.verdict.ops
    known = [(found, oracle) for found, oracle in zip(verdicts, said, strict=True) if oracle is not None]
    differ = [(found, oracle) for found, oracle in known if not _agree(found, oracle)]
    disagreements = tuple(
        f"operator {found.index} ({found.code}): we say {found.status}, {name} "
        + (oracle.words or ("takes it" if oracle.taken else "refuses it"))
        for found, oracle in differ
    )
    taken = sum(oracle.taken for _, oracle in known)
    return OracleAnswer(
        name=name,
        whole=taken == len(said) if whole is None else whole,
        accelerated_ops=taken if accelerated is None else accelerated,
        total_ops=len(verdicts),
        refused=tuple(i for i, oracle in enumerate(said) if oracle and (oracle.fails or not oracle.taken)),
        agreement=1 - len(disagreements) / len(known) if known else 1.0,
        disagreements=disagreements,
        outputs=outputs,
        differ=tuple(found.index for found, _ in differ),
        version=tool or version("ai-edge-litert"),
    )


def _agree(found: OpVerdict, oracle: Said) -> bool:
    """Refused for refused, failing for rejected; a rule may also reject what is taken and computed wrong."""
    if not oracle.taken:
        return found.refused
    return not found.refused and (not oracle.fails or found.status is Status.FALLBACK)
