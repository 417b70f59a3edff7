"""Compile every ONNX model of the shared corpus for a target and ask the real delegate about it.

    python bench/corpus.py [--target mali-gpu] [--only NAME ...] [--no-oracle] [--markdown FILE]

Each model is compiled in a process of its own. Columns: operators and TRANSPOSEs written, our
verdict, the delegate's answer, operators where the two differ, the worst error relative to an
output's range, seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def shared() -> Path:
    """The folder with the corpus; CONVKIT_SHARED overrides it."""
    return Path(os.environ.get("CONVKIT_SHARED", ROOT.parent / "shared"))


def input_options(row: dict[str, str]) -> list[str]:
    """`--input NAME:SHAPE` for every input of a model whose shapes are not static."""
    declared = dict(item.rsplit(":", 1) for item in row["inputs"].split("; ") if item)
    if not any("'" in shape or "-1" in shape for shape in declared.values()):
        return []
    seen = row["seen running"].removeprefix("ok ").split(" -> ")[0]
    options = []
    for item in seen.split("; "):
        name, _, dims = item.rpartition("[")
        shape = "x".join(d.strip() for d in dims.rstrip("]").split(",")) if dims.rstrip("]") else ""
        options += ["--input", f"{name}:{shape}"]
    return options


def compile_one(row: dict[str, str], target: str, oracle: bool, folder: Path) -> dict[str, object]:
    """Compile one model; the figures of its report, or what was said instead."""
    model = shared() / "models" / row["file"]
    out = folder / model.stem
    command = [sys.executable, "-m", "convkit", "compile", str(model), "--target", target, "-o", str(out)]
    command += [*input_options(row), *(["--oracle"] if oracle else []), "-q"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    seconds = time.perf_counter() - start
    report = out / "report.json"
    figures: dict[str, object] = {"model": model.stem, "seconds": round(seconds, 2), "exit": done.returncode}
    if not report.exists():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return figures | {"said": said[0] if said else "", "all": said}
    data = json.loads(report.read_text())
    ops = [op["op"] for op in data["ops"]]
    checks = (data.get("verification") or {}).get("outputs", [])
    figures |= {
        "ops": len(ops),
        "transposes": ops.count("TRANSPOSE"),
        "verdict": data["verdict"],
        "max_rel": max((c["max_rel"] for c in checks), default=None),
        "mismatches": sum(c["mismatches"] for c in checks),
    }
    answer = data.get("oracle")
    if answer:
        gpu = max((c["max_rel"] for c in answer.get("outputs", [])), default=None)
        figures |= {
            "whole": answer["whole"],
            "agreement": answer["agreement"],
            "disagreements": answer["disagreements"],
            "gpu_max_rel": gpu,
        }
    return figures


def main() -> None:
    """Run the corpus and print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="mali-gpu")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--no-oracle", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="leave the compiled files in this folder")
    args = parser.parse_args()
    with (shared() / "models/INDEX.tsv").open() as file:
        rows = [r for r in csv.DictReader(file, delimiter="\t") if r["format"] == "onnx"]
    rows = [r for r in rows if not args.only or Path(r["file"]).stem in args.only]
    rows += [
        {"file": f"onnx/{name}", "inputs": "", "seen running": ""}
        for name in ("unet_prelu_tconv.onnx", "vapsr_pixelnorm.onnx", "mobilenet_v2.onnx", "vit_tiny.onnx")
        if not args.only or Path(name).stem in args.only
    ]
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        for row in rows:
            found = compile_one(row, args.target, not args.no_oracle, args.keep or Path(temporary))
            results.append(found)
            print("  ".join(f"{k}={v}" for k, v in found.items()), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
