"""The command `convkit`. Commands are imported when called: `convkit --help` loads click alone."""

from __future__ import annotations

import atexit
import gc
import os
from importlib import import_module

import click

from convkit import __version__
from convkit.diagnostics import did_you_mean

# A process that lives for one command: objects are many and stay, so collecting them often finds nothing, and
# collecting all of them at its end is wasted. The threads of numpy cost a tenth of a small compile, and with
# them sums depend on how many cores a machine has.
gc.set_threshold(50_000, 20, 20)
atexit.register(gc.freeze)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_COMMANDS = {
    "compile": "Compile a model to the file a target runs, verify it, and report.",
    "check": "Say what would not run on the accelerator, and why; write nothing.",
    "import": "Write a model of any format as ONNX in normal form.",
    "quantize": "Compare quantization schemes: size, latency, loss.",
    "diff": "Compare two models of any formats, output by output or layer by layer.",
    "inspect": "Show a model's operators with their MACs, parameters and bytes.",
    "targets": "List the targets, or show one with its operators and rules.",
    "explain": "Explain a rule, or the verdict on a node and what almost cured it.",
    "rules": "Check and test rule files of your own.",
    "toolchain": "List, install or remove the vendors' tools that targets need.",
    "doctor": "Say what is installed and works here, and what to type for the rest.",
}


class _LazyGroup(click.Group):
    """A group whose commands live in modules of their own, `convkit.cli.<name>:command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        found = import_module(f"convkit.cli.{cmd_name}_").command
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as unknown:
            hint = did_you_mean(args[0], _COMMANDS)
            if hint and hint not in unknown.message:
                raise click.UsageError(f"{unknown.message} D{hint[1:]}", ctx) from unknown
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group("convkit", cls=_LazyGroup, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="convkit")
def main() -> None:
    """Compile trained models to the files edge targets run, and say what will not run on the
    accelerator, why, what that costs, and what cures it.

    \b
      convkit compile model.onnx --target mali-gpu
      convkit check model.onnx --target all

    Exit codes: 0 fine; 1 a check found something; 2 the model or the call is wrong; 3 a toolchain is
    missing or failed.
    """
