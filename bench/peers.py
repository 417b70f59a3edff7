"""Other converters, in an environment of their own (`make peers`; CONVKIT_PEERS_PYTHON overrides it)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from bench.process import Run, run

ROOT = Path(__file__).resolve().parents[1]
_CALIBRATION = "calibration_image_sample_data_20x128x128x3_float32.npy"


def python() -> Path | None:
    """The interpreter of the peers' environment, or None if there is none."""
    found = Path(os.environ.get("CONVKIT_PEERS_PYTHON", ROOT / ".venv-peers/bin/python"))
    return found if found.exists() else None


def onnx2tf(model: Path, folder: Path) -> tuple[Run, Path]:
    """Convert `model` into `folder` by onnx2tf as its command line does; the run and the float32 file.

    onnx2tf looks for calibration images in the working directory even for a float conversion, and
    fetches them from the network otherwise: a stand-in is put there.
    """
    interpreter = python()
    assert interpreter is not None, "no environment for peers"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _CALIBRATION).exists():
        images = np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32)
        np.save(folder / _CALIBRATION, images)
    command = [interpreter.parent / "onnx2tf", "-i", model.resolve(), "-o", "out", "-n"]
    done = run(command, cwd=folder)
    return done, folder / "out" / f"{model.stem}_float32.tflite"
