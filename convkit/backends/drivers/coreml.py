"""Core ML: an ONNX model becomes an ML program by coremltools' builder, is saved, reloaded and evaluated."""

import json
import os
import sys
import uuid
from importlib.metadata import version
from pathlib import Path

from _protocol import Refused, load_arrays, save_arrays, serve

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = "model.mlpackage"
SPACE = uuid.UUID(int=0)  # identifiers of the parts of a package are made from their names


def compile(request):
    """Lower `model`, an ONNX file, to an .mlpackage for iOS `ios` in `precision`; evaluate it on `arrays`."""
    import coremltools as ct

    sys.path.insert(0, HERE)
    try:
        import _coreml_evaluate
        import _coreml_lower
    finally:
        sys.path.remove(HERE)
    target = getattr(ct.target, f"iOS{request['ios']}")
    program = _coreml_lower.build(request["model"], request["resize"], target)
    precision = ct.precision.FLOAT16 if request["precision"] == "fp16" else ct.precision.FLOAT32
    try:
        model = ct.convert(
            program, convert_to="mlprogram", minimum_deployment_target=target, compute_precision=precision,
            compute_units=ct.ComputeUnit.CPU_ONLY, skip_model_load=True,
        )  # fmt: skip
    except ValueError as said:
        raise Refused(f"coremltools: {said}") from said
    model.user_defined_metadata.clear()
    model.save(PACKAGE)
    settle()
    operators, function = _coreml_evaluate.reload(PACKAGE)
    reply = {
        "tool": f"coremltools {version('coremltools')}",
        "operators": operators,
        "inputs": list(function.inputs),  # coremltools renames what is a word of its own
        "outputs": [variable.name for variable in function.outputs],
        "missing": "",
    }
    if request["arrays"]:
        arrays = load_arrays(request["arrays"])
        found, reply["missing"], reply["own"] = _coreml_evaluate.evaluate(function, arrays)
        if not reply["missing"]:
            save_arrays("outputs.npz", found)
    return reply


def settle():
    """The same package has the same bytes: maps are written in order, parts are identified by their paths."""
    from coremltools.models.utils import load_spec

    Path(PACKAGE, "Data", "com.apple.CoreML", "model.mlmodel").write_bytes(
        load_spec(PACKAGE).SerializeToString(deterministic=True)
    )
    path = Path(PACKAGE, "Manifest.json")
    manifest = json.loads(path.read_text())
    entries = manifest["itemInfoEntries"]
    names = {old: str(uuid.uuid5(SPACE, entry["path"])).upper() for old, entry in entries.items()}
    manifest["itemInfoEntries"] = {names[old]: entry for old, entry in entries.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, indent=4, sort_keys=True))


if __name__ == "__main__":
    serve(compile=compile)
