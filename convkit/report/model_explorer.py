"""A check as node data of Google's Model Explorer, laid over the graph that it shows.

Source of the format: ai-edge-model-explorer 0.1.34, node_data_builder.py.
"""

from __future__ import annotations

import json
from typing import Any

from convkit.diagnostics import error
from convkit.report.check import CheckResult
from convkit.report.model import OpEntry, OpVerdict, Report

_COLORS = {
    OpVerdict.ACCELERATED: "#2e7d32",
    OpVerdict.UNDECIDED: "#f9a825",
    OpVerdict.STRANDED: "#ef6c00",
    OpVerdict.FALLBACK: "#c62828",
}
_WORST = tuple(_COLORS)


def to_model_explorer(result: CheckResult) -> str:
    """The verdict of each operator, as a word and a colour.

    The keys are the names of the artifact's tensors and of the nodes as imported, so the data fit the
    written .tflite and the model it came from. Raises ConvkitError "one-report" for more than one.
    """
    if len(result.reports) != 1:
        raise error(
            "one-report",
            f"node data are of one model for one target; here are {len(result.reports)} reports",
            help="check one MODEL for one --target",
        )
    return node_data(result.reports[0])


def node_data(report: Report) -> str:
    """The node data of one report."""
    worst: dict[str, OpEntry] = {}
    for op in report.ops:
        for key in dict.fromkeys((op.name, *op.origin.nodes)):
            if key and (key not in worst or _rank(op) > _rank(worst[key])):
                worst[key] = op
    body: dict[str, Any] = {
        "name": f"convkit: {report.target.name}",
        "results": {key: _result(op) for key, op in worst.items()},
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _rank(op: OpEntry) -> int:
    return _WORST.index(op.verdict)


def _result(op: OpEntry) -> dict[str, Any]:
    rules = ", ".join(reason.rule for reason in op.reasons)
    value = f"{op.verdict.value} ({rules})" if rules else op.verdict.value
    return {"value": value, "bgColor": _COLORS[op.verdict], "textColor": "white"}
