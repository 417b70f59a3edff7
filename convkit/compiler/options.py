"""What a user may ask of a compile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from convkit.frontends import ImportOptions
from convkit.rewrite import Exactness


@dataclass(frozen=True)
class CompileOptions:
    """Options of `compile_model`; the defaults are the command line's.

    `input_shapes` gives static shapes to symbolic inputs, by name, `freeze` values to inputs that are to
    become constants. How a model is imported (`input_dtypes`, `example_inputs`, `weights`, `translations`,
    `trust`) is said at `convkit.frontends.ImportOptions`. `allow` is the loss that rewrites may bring at
    most. `passes` are the user's own (see `convkit.passes`). `inputs` is an .npz of real inputs to verify
    on. `print_after` names passes ("all" for every one).
    """

    precision: Literal["fp32", "fp16"] = "fp32"
    io_layout: Literal["keep", "nhwc"] = "keep"
    allow: Exactness = Exactness.REASSOCIATED
    freeze: Mapping[str, Any] = field(default_factory=dict)
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    input_dtypes: Mapping[str, str] = field(default_factory=dict)
    example_inputs: Any = None
    weights: Path | None = None
    translations: Mapping[Any, Any] = field(default_factory=dict)
    trust: bool = False
    passes: Sequence[Any] = ()
    oracle: bool = False
    verify: bool = True
    inputs: Path | None = None
    print_after: tuple[str, ...] = ()
    verify_each: bool = False
    bisect: bool = False

    @property
    def importing(self) -> ImportOptions:
        """What the frontends are told."""
        return ImportOptions(
            inputs=self.input_shapes,
            dtypes=self.input_dtypes,
            freeze=self.freeze,
            example_inputs=self.example_inputs,
            weights=self.weights,
            translations=self.translations,
            trust=self.trust,
        )

    def described(self) -> dict[str, str]:
        """The options that shape the artifact, as the report shows them."""
        return {
            "precision": self.precision,
            "io-layout": self.io_layout,
            "allow": self.allow.name.lower(),
            "inputs": ", ".join(
                f"{name}:{'x'.join(map(str, shape))}" for name, shape in self.input_shapes.items()
            ),
            "freeze": ", ".join(f"{name}={value}" for name, value in self.freeze.items()),
        }
