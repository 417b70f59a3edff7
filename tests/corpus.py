"""The shared corpus of real ONNX models: which there are, and what each is asked with."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from bench.corpus import input_options
from tests.conftest import shared_folder

MODELS = sorted((shared_folder() / "models" / "onnx").glob("*.onnx"))

# Operators of other domains, which are refused by name.
REFUSED = {"TFC_2W2A_qonnx": "onnx.brevitas", "tiny-random-gpt2_past": "com.microsoft"}
FREEZE: dict[str, dict[str, Any]] = {"silero_vad": {"sr": 16000}}


def shapes_of(model: Path) -> dict[str, tuple[int, ...]]:
    """The shapes to give to a model's symbolic inputs, from the corpus's index."""
    with (model.parents[1] / "INDEX.tsv").open() as file:
        row = next(
            (r for r in csv.DictReader(file, delimiter="\t") if r["file"] == f"onnx/{model.name}"), None
        )
    words = [] if row is None else input_options(row)[1::2]
    pairs = [word.rpartition(":")[::2] for word in words]
    return {name: tuple(int(size) for size in text.split("x") if size) for name, text in pairs}
