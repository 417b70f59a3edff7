"""Vela, Arm's compiler for Ethos-U: compiles integer TFLite models, says which operators stay on the CPU."""

import csv
import os
import re
from importlib.metadata import version
from pathlib import Path

from _protocol import Refused, serve

LEFT = re.compile(r"operator: \S+, ofm: '(.*)'\n((?:(?:Reason| -).*\n)+)")
DETAIL = re.compile(r"^(?:Reason: |\s*- )(.*)$", re.MULTILINE)


def compile(request):
    """Compile `models`; per model what `answer` gives. `strict`: the first that Vela does not take is
    refused, else its answer is its error in words."""
    answers = []
    for model in request["models"]:
        try:
            answers.append(answer(model, request))
        except Refused as refused:
            if request["strict"]:
                raise
            answers.append(str(refused))
    return {"tool": f"ethos-u-vela {version('ethos-u-vela')}", "answers": answers}


def answer(model, request):
    """`left`: the operators that stay on the CPU by the tensor that they make, with Vela's reason; `summary`:
    the row of Vela's summary. The compiled file is NAME_vela.tflite, the layers' table NAME_per-layer.csv."""
    from ethosu.vela import vela

    options = ["--output-dir", ".", "--verbose-performance"]
    for name in ("accelerator_config", "config", "system_config", "memory_mode", "optimise"):
        options += [f"--{name.replace('_', '-')}", request[name]]
    stem = Path(model).stem
    Path(f"{stem}_vela.tflite").unlink(missing_ok=True)
    said = heard(lambda: vela.main([model, *options]), Path(f"{stem}.said"))
    compiled = Path(f"{stem}_vela.tflite")
    if not compiled.exists():
        lines = [line for line in said.splitlines() if re.match(r"(.*\b)?(error|Error|ERROR)\b", line)]
        raise Refused((lines or said.splitlines() or ["Vela said nothing"])[-1])
    reasons = {name: "; ".join(DETAIL.findall(lines)) for name, lines in LEFT.findall(said)}
    left = {name: reasons.get(name, "") for name in made_on_the_cpu(compiled.read_bytes())}
    (table,) = Path().glob(f"{stem}_summary_*.csv")
    with table.open() as file:
        summary = next(csv.DictReader(file))
    return {"left": left, "summary": summary}


def heard(run, sink):
    """What `run` prints, by its C++ part too; it goes to the log as well."""
    kept = os.dup(1), os.dup(2)
    with sink.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            run()
        except SystemExit as ended:
            print(f"Vela ended: {ended}", flush=True)
        except Exception as failed:
            print(f"{type(failed).__name__} error: {failed}", flush=True)
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])
    said = sink.read_text(errors="replace")
    print(said, flush=True)
    return said


def made_on_the_cpu(model):
    """The names of the tensors that a compiled model makes outside the NPU."""
    from ethosu.vela.tflite.Model import Model

    root = Model.GetRootAs(model, 0)
    for graph in (root.Subgraphs(i) for i in range(root.SubgraphsLength())):
        for op in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            if root.OperatorCodes(op.OpcodeIndex()).CustomCode() != b"ethos-u":
                for i in range(op.OutputsLength()):
                    yield graph.Tensors(op.Outputs(i)).Name().decode()


if __name__ == "__main__":
    serve(compile=compile)
