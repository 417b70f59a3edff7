"""What went wrong in torch's exporter, said about the user's source line with what to do."""

from __future__ import annotations

import re
import traceback
from typing import Any

from convkit.diagnostics import ConvkitError, Diagnostic, Location

_LIBRARY = re.compile(r"(site|dist)-packages|/torch/|<frozen|<string>|/convkit/frontends/")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_MISSING = re.compile(r"No ONNX function found for <OpOverload\(op='(?P<op>[\w.]+)'")
_SCRIPT_MISSING = re.compile(r"operator '(?P<op>[\w:.]+)'.* is not supported")
_NODE = re.compile(r"translating node %(?P<name>\w+)")


def export_failed(failed: BaseException, program: Any = None) -> ConvkitError:
    """The error for an exception of the exporter; `program` is the ExportedProgram it was about."""
    chain = _chain(failed)
    text = "\n".join(str(link) for link in chain)
    where = _line_of(chain, text)
    missing = _MISSING.search(text) or _SCRIPT_MISSING.search(text)
    if missing is not None:
        operator = missing["op"]
        node = _NODE.search(text)
        where = _node_line(program, node["name"] if node else "", operator) or where
        return _error(
            f"ONNX has no form of the operator {operator}",
            where,
            "write it with other operators, or give a translation:"
            f" translations={{torch.ops.{operator}: function}}",
        )
    if "data-dependent" in text:
        return _error(
            "what the code does next depends on the values of a tensor",
            where,
            "a graph cannot follow it: use torch.where, or make the choice a constant of the module",
        )
    if "proxy" in text.lower() and "len" in text:
        return _error("len() is called on a traced value", where, "use x.shape[0]")
    if ".numpy()" in text:
        return _error("the module leaves torch by .numpy()", where, "write it with torch's own operators")
    said = next((line.strip() for line in str(chain[-1]).splitlines() if line.strip()), type(failed).__name__)
    return _error(
        f"torch cannot export the module: {said}", where, "check that the module runs on these inputs"
    )


def _error(message: str, where: Location | None, help: str) -> ConvkitError:
    return ConvkitError(Diagnostic("export-failed", message, location=where, help=help))


def _chain(failed: BaseException) -> list[BaseException]:
    """The exception and what caused it, the first cause last."""
    found: list[BaseException] = []
    link: BaseException | None = failed
    while link is not None and link not in found:
        found.append(link)
        link = link.__cause__ or link.__context__
    return found


def _line_of(chain: list[BaseException], text: str) -> Location | None:
    """The innermost line of the user's own: of the tracebacks, else of a trace within a message."""
    for link in reversed(chain):
        frames = [f for f in traceback.extract_tb(link.__traceback__) if not _LIBRARY.search(f.filename)]
        if frames and frames[-1].name not in ("<module>", "main"):
            return Location(frames[-1].filename, frames[-1].lineno)
    return _last_own(text)


def _last_own(trace: str) -> Location | None:
    frames = [(m["file"], int(m["line"])) for m in _FRAME.finditer(trace) if not _LIBRARY.search(m["file"])]
    return Location(*frames[-1]) if frames else None


def _node_line(program: Any, name: str, operator: str) -> Location | None:
    """Where the user's code calls the operator that a graph's node stands for."""
    if program is None:
        return None
    base = operator.rpartition(".")[2].split("::")[-1].lstrip("_")
    nodes = [n for n in program.graph.nodes if n.op == "call_function"]
    chosen = [n for n in nodes if n.name == name] or [n for n in nodes if base in str(n.target)]
    chosen = chosen or [n for n in nodes if str(n.target).split(".")[1:2] and base in n.name]
    return _last_own(chosen[0].meta.get("stack_trace") or "") if chosen else None
