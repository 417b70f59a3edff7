"""Driver of LiteRT's compiler plugin for Qualcomm, fed with the QNN libraries of onnxruntime-qnn."""

import os
import re
import subprocess
import time
from importlib.util import find_spec

from _protocol import Refused, serve

_SELECTED = re.compile(r"selected (?P<taken>\d+) ops, from a total of (?P<total>\d+) ops")
_INVALID = re.compile(r"^QNN op validation failed: '(?P<node>[^']+)'")
_UNSUPPORTED = re.compile(r"^LiteRT Op #(?P<index>\d+) '")
_FAILED = re.compile(r"Failed to validate op (?P<node>\S+) with error")
_DATATYPES = re.compile(r"datatypes requested for the HTP Op '(?P<op>\w+)'")
_BUILDER = "ERROR: [Qnn]"  # a mapping of the plugin's own gives up, and does not say on which operator
_NOISE = re.compile(r"validat\w+ failed|failed \d+$|^Requested I/O|^Supported I/O|^Please refer")


def probe(request):
    """Version of the plugin's package."""
    from importlib.metadata import version

    return {"ai-edge-litert": version("ai-edge-litert")}


def partition(request):
    """What the plugin would take of `model` for `soc`.

    Writes partitioned.tflite. Replies with `refused` (operator index to words) and `unnamed` (words on the
    other refused ones, in order), `taken` and `total` (how many operators), `seconds`.
    """
    said, code, seconds = _plugin("partition", request, "partitioned.tflite")
    selected = next((found for text in said if (found := _SELECTED.search(text))), None)
    if code or selected is None:
        raise Refused(_why(said, code))
    refused, unnamed = _refused(said)
    for index, words in refused.items():
        print(f"operator {index}: {words}")
    print("\n".join(unnamed))
    return {
        "refused": refused,
        "unnamed": unnamed,
        **{key: int(n) for key, n in selected.groupdict().items()},
        "seconds": seconds,
    }


def compile_(request):
    """As `partition`; and where the plugin takes anything, write `artifact` with the NPU's byte-code."""
    found = partition(request)
    if found["taken"]:
        said, code, seconds = _plugin("apply", request, request["artifact"])
        if code or not (os.path.exists(request["artifact"]) and os.path.getsize(request["artifact"])):
            raise Refused(_why(said, code))
        found["seconds"] = seconds
    return found


def _plugin(command, request, artifact):
    """Run the plugin: what it says, its exit code, and seconds."""
    folder = _package("ai_edge_litert")
    line = [
        os.path.join(folder, "tools", "apply_plugin_main"),
        f"--cmd={command}",
        f"--model={request['model']}",
        f"--o={artifact}",
        "--soc_manufacturer=Qualcomm",
        f"--soc_model={request['soc']}",
        f"--libs={os.path.join(folder, 'vendors', 'qualcomm', 'compiler')}",
        "--err=--",
    ]
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{_package('onnxruntime_qnn')}:{_stand_in()}"}
    start = time.perf_counter()
    # Two streams: each is in order, together they are not.
    with open("plugin.out", "wb") as out, open("plugin.err", "wb") as err:
        done = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
    seconds = time.perf_counter() - start
    return _lines("plugin.out") + _lines("plugin.err"), done.returncode, seconds


def _package(name):
    return os.path.dirname(find_spec(name).origin)


def _stand_in():
    """A folder with a libQnnLpai.so, which the plugin links to and no wheel has; nothing calls it here."""
    os.makedirs("libraries", exist_ok=True)
    link = os.path.join(os.getcwd(), "libraries", "libQnnLpai.so")
    if not os.path.lexists(link):
        os.symlink(os.path.join(_package("onnxruntime_qnn"), "libQnnSystem.so"), link)
    return os.path.dirname(link)


def _lines(path):
    with open(path, errors="replace") as file:
        return [line.rstrip() for line in file]


def _refused(said):
    """Why operators are refused: by index QNN's words for the first part that fails, then words on others."""
    reasons, pending = {}, []
    for line in said:
        if "[ ERROR ]" not in line:
            continue
        words = line.split("[ ERROR ]", 1)[1].replace("<E>", "").strip()
        failed = _FAILED.search(words)
        if failed:
            reasons.setdefault(failed["node"], pending[0] if pending else "the HTP does not take it")
            pending = []
        elif not _NOISE.search(words):
            pending.append(_short(words))
    found, unnamed, part = {}, [], None
    for line in said:
        invalid, unsupported = _INVALID.match(line), _UNSUPPORTED.match(line)
        if invalid:
            part = part or invalid["node"]
        elif unsupported:
            found[unsupported["index"]] = reasons.get(part, "the plugin does not map it")
            part = None
        elif line.startswith(_BUILDER):
            unnamed.append(line.removeprefix(_BUILDER).strip())
    return found, unnamed


def _short(words):
    """QNN's sentence without its numbers of internal tensors."""
    datatypes = _DATATYPES.search(words)
    if datatypes:
        return f"the HTP has no {datatypes['op']} of these types"
    return re.sub(r"^\[\d+\] ", "a tensor ", words)


def _why(said, code):
    errors = [text for text in said if "[ ERROR ]" in text or text.startswith("ERROR")]
    print("\n".join(errors))
    return errors[-1][:300] if errors else f"the plugin ended with code {code}"


if __name__ == "__main__":
    serve(probe=probe, partition=partition, compile=compile_)
