"""OpenVINO: its reader converts an ONNX model, its CPU plugin says what it takes and runs it."""

import re

from _protocol import Refused, load_arrays, save_arrays, serve

NO_RULE = re.compile(r"No conversion rule found for operations: (.+)")


def compile(request):
    """Convert `model` to `model.xml` and its .bin; run that on `arrays` where given."""
    import openvino as ov

    model = convert(request["model"])
    ov.save_model(model, "model.xml", compress_to_fp16=request["fp16"])
    core = ov.Core()
    if request["arrays"]:
        single = {"INFERENCE_PRECISION_HINT": "f32"}  # some CPUs would else compute in bfloat16
        compiled = core.compile_model("model.xml", "CPU", single)
        given = dict(zip(request["inputs"], load_arrays(request["arrays"])))
        names = [next(iter(port.get_names() & given.keys())) for port in compiled.inputs]  # some are dropped
        found = compiled([given[name] for name in names])
        save_arrays("outputs.npz", [found[port] for port in compiled.outputs])
    version = ov.__version__.partition("-")[0]
    return {"version": version, "left": left(core, model)}


def convert(path):
    """The model as OpenVINO reads it."""
    import openvino as ov

    try:
        return ov.convert_model(path)
    except Exception as failed:
        raise Refused(reason(str(failed))) from failed


def reason(text):
    """What the reader says, in one line, without the places in its own source."""
    lacks = NO_RULE.search(text)
    if lacks:
        return f"no conversion rule for {lacks[1].strip()}"
    lines = (line.strip() for line in text.splitlines())
    ours = [line for line in lines if line and "src/" not in line and not line.startswith("Summary")]
    return " ".join(ours)[:400]


def place(request):
    """As `compile`, of `model` as far as it can be converted; nothing is written."""
    import openvino as ov

    reader = ov.frontend.FrontEndManager().load_by_framework("onnx")
    try:
        model = reader.convert_partially(reader.load(request["model"]))
    except Exception as failed:
        raise Refused(reason(str(failed))) from failed
    alien = [op for op in model.get_ordered_ops() if op.get_type_name().endswith("FrameworkNode")]
    return {
        "version": ov.__version__.partition("-")[0],
        "left": named(alien, "its reader has no conversion rule") or left(ov.Core(), model),
        "asked": not alien,
    }


def left(core, model):
    """What the CPU plugin does not take, by the names of the ONNX values that hang on it."""
    taken = core.query_model(model, "CPU")
    return named(
        [op for op in model.get_ordered_ops() if op.get_friendly_name() not in taken],
        "the CPU plugin does not take it",
    )


def named(ops, words):
    """`words` by the ONNX values that operators make, or the nearest ones that are made of these."""
    found, seen, todo = {}, set(), list(ops)
    while todo:
        op = todo.pop()
        if op.get_friendly_name() in seen:
            continue
        seen.add(op.get_friendly_name())
        names = {name for port in op.outputs() for name in port.get_names()}
        found.update(dict.fromkeys(names, f"{words}: {op.get_type_name()}"))
        if not names:
            todo += [target.get_node() for port in op.outputs() for target in port.get_target_inputs()]
    return found


if __name__ == "__main__":
    serve(compile=compile, place=place)
