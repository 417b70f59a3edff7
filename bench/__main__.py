"""Measure convkit, side by side with a peer where there is one, and write docs/benchmarks.md.

    python -m bench [--repeat 5] [--only speed quality scale startup] [--models NAME ...]

The peer is onnx2tf in an environment of its own (`make peers`); without it its columns stay empty.
Figures are kept in build/bench.json, so that a part can be measured again alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import artifacts, peers
from bench.models import EXPORTED, ROOT, chain, exported
from bench.process import interleaved, median_seconds, peak_bytes, run
from bench.tables import page

WORK = ROOT / "build" / "bench"
RESULTS = ROOT / "build" / "bench.json"
TARGET = "mali-gpu"


def convkit(model: Path, out: Path, *options: str, target: str = TARGET) -> Any:
    """Compile as a user does, the whole process from the shell."""
    command = [sys.executable, "-m", "convkit", "compile", model, "-t", target, "-o", out, "-q", *options]
    return run(command, cwd=ROOT)


def speed(models: list[str], repeat: int) -> dict[str, Any]:
    """Compile time and peak memory of both, whole processes, in turns."""
    found = {}
    for name in models:
        model = exported(name)
        jobs: dict[str, Callable[[], Any]] = {"convkit": lambda m=model, n=name: convkit(m, WORK / n)}
        if peers.python() is not None:
            jobs["onnx2tf"] = lambda m=model, n=name: peers.onnx2tf(m, WORK / "onnx2tf" / n)[0]
        runs = interleaved(jobs, repeat)
        found[name] = {"bytes": model.stat().st_size} | {
            tool: {"seconds": median_seconds(seen), "peak": peak_bytes(seen), "said": seen[-1].said}
            for tool, seen in runs.items()
        }
        print(name, {tool: round(found[name][tool]["seconds"], 2) for tool in runs}, flush=True)
    return found


def quality(models: list[str], repeat: int) -> dict[str, Any]:
    """Operators, TRANSPOSEs, and XNNPACK latency in turns, of both files.

    Both have channels-last inputs and outputs: the peer always makes them so. Operators are those of the
    file for the GPU, the latency is that of the file for the CPU.
    """
    found = {}
    for name in models:
        ours = WORK / f"{name}-nhwc" / f"{name}.tflite"
        convkit(exported(name), ours.parent, "--io-layout", "nhwc")
        for_cpu = WORK / f"{name}-cpu" / f"{name}.tflite"
        convkit(exported(name), for_cpu.parent, "--io-layout", "nhwc", target="tflite-cpu")
        files = {"convkit": for_cpu}
        theirs = WORK / "onnx2tf" / name / "out" / f"{name}_float32.tflite"
        if not theirs.exists() and peers.python() is not None:
            peers.onnx2tf(exported(name), WORK / "onnx2tf" / name)
        if theirs.exists():
            files["onnx2tf"] = theirs
        files = {tool: path for tool, path in files.items() if path.exists()}
        latency = artifacts.latencies(list(files.values()), rounds=40 * repeat)
        found[name] = {}
        for (tool, path), milliseconds in zip(files.items(), latency, strict=True):
            operators = artifacts.operators(ours if tool == "convkit" else path)
            found[name][tool] = {
                "operators": operators.total(),
                "transposes": operators["TRANSPOSE"],
                "milliseconds": milliseconds,
            }
        print(name, found[name], flush=True)
    return found


def scale(models: list[str], repeat: int) -> dict[str, Any]:
    """Seconds to compile chains of 1,000 and of 10,000 convolutions and additions."""
    sizes = (1_000, 10_000)
    paths = {n: chain(n, WORK / f"chain{n}.onnx") for n in sizes}
    runs = interleaved(
        {str(n): lambda n=n: convkit(paths[n], WORK / f"chain{n}") for n in sizes}, min(repeat, 3)
    )
    found = {n: {"seconds": median_seconds(seen), "said": seen[-1].said} for n, seen in runs.items()}
    print({n: round(f["seconds"], 2) for n, f in found.items()}, flush=True)
    return found


def startup(models: list[str], repeat: int) -> dict[str, Any]:
    """Seconds of `convkit --help`."""
    runs = [run([sys.executable, "-m", "convkit", "--help"], cwd=ROOT) for _ in range(2 * repeat)]
    print({"help": round(median_seconds(runs), 3)}, flush=True)
    return {"seconds": median_seconds(runs)}


PARTS = {"speed": speed, "quality": quality, "scale": scale, "startup": startup}


def main() -> None:
    """Measure the parts asked for, merge them with the last figures, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="*", default=list(EXPORTED))
    parser.add_argument("--page", type=Path, default=ROOT / "docs/benchmarks.md")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["machine"] = {
        "cores": os.cpu_count(),
        "kind": platform.machine(),
        "python": platform.python_version(),
    }
    for part in args.only:
        found = PARTS[part](args.models, args.repeat)
        results[part] = {**results.get(part, {}), **found}
        RESULTS.write_text(json.dumps(_finite(results), indent=1))
    args.page.write_text(page(results))
    print(f"wrote {args.page}")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main()
