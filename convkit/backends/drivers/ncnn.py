"""ncnn: pnnx converts an ONNX model, the ncnn package loads and runs what came of it."""

import re
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from _protocol import Refused, load_arrays, save_arrays, serve

NO_BATCH = 233  # what pnnx writes for a tensor without a batch axis


def compile(request):
    """Convert `model`; run the result on `arrays` where given, the outputs shaped as `outputs`."""
    said = convert(request["model"], request["fp16"])
    net = load(said)
    if request["arrays"]:
        save_arrays("outputs.npz", run(net, load_arrays(request["arrays"]), request["outputs"]))
    types = layers()
    return {
        "tool": f"pnnx {version('pnnx')}",
        "runtime": f"ncnn {version('ncnn')}, CPU",
        "layers": len(types),
        "without_vulkan": [name for name in dict.fromkeys(types) if not on_vulkan(name)],
    }


def layers():
    """The types of the layers that pnnx has written."""
    return [line.split()[0] for line in Path("model.ncnn.param").read_text().splitlines()[2:]]


def on_vulkan(name):
    """Whether ncnn has a Vulkan kernel of a layer; an input has no kernel at all."""
    import ncnn

    return name == "Input" or ncnn.create_layer(name).support_vulkan


def convert(model, fp16):
    """Call pnnx's own program (its Python package wants torch); returns what it said."""
    folder = find_spec("pnnx").submodule_search_locations[0]
    done = subprocess.run(
        [f"{folder}/pnnx", model, f"fp16={int(fp16)}"], capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    print(said, flush=True)
    if done.returncode or not Path("model.ncnn.param").exists():
        last = [line for line in said.splitlines() if line.strip()][-1:]
        raise Refused(f"pnnx ended with code {done.returncode}: {' '.join(last)}")
    return said


def load(said):
    """The net; what pnnx cannot convert it leaves in the file, and reports success."""
    import ncnn

    left = re.findall(r"^(?:todo|ignore) (\S+)", said, re.MULTILINE)
    unknown = [name for name in layers() if ncnn.layer_to_index(name) < 0]
    if left or unknown:
        raise Refused(f"pnnx cannot convert {', '.join(dict.fromkeys([*left, *unknown]))}")
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{name}", False)  # the numbers of the file, not of a processor's short cuts
    if net.load_param("model.ncnn.param") or net.load_model("model.ncnn.bin"):
        raise Refused("ncnn does not load what pnnx has made")
    return net


def run(net, arrays, shapes):
    """The outputs on these inputs; which axis is the batch, which ncnn has none of, is pnnx's to say."""
    import ncnn
    import numpy as np

    script = Path("model_ncnn.py").read_text()
    batch_in = [int(i) for i in re.findall(r"ex\.input\(.*batch_index=(\d+)", script)]
    batch_out = [int(i) for i in re.findall(r"out\d+\.numpy\(batch_index=(\d+)", script)]
    found = []
    with net.create_extractor() as extractor:
        for i, (array, axis) in enumerate(zip(arrays, batch_in)):
            extractor.input(f"in{i}", ncnn.Mat(np.ascontiguousarray(array), batch_index=axis).clone())
        for i, (shape, axis) in enumerate(zip(shapes, batch_out)):
            code, value = extractor.extract(f"out{i}")
            if code:
                raise Refused(f"ncnn cannot run the converted model: layer error {code}")
            array = np.array(value.numpy(batch_index=axis))
            if array.size != np.prod(shape):
                raise Refused(f"output {i} has shape {array.shape}, the model says {tuple(shape)}")
            found.append(array.reshape(shape))
    return found


if __name__ == "__main__":
    serve(compile=compile)
