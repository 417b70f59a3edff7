"""`convkit doctor`."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import click

from convkit.cli.console import console, exits
from convkit.cli.options import common
from convkit.diagnostics import ConvkitError, ExitCode

_CORE = ("onnx", "onnx-ir", "onnxruntime", "ai-edge-litert", "numpy", "scipy", "lark")
_EXTRAS = {"torch": "pip install 'convkit[torch]'", "tensorflow-cpu": "pip install 'convkit[tf]'",
           "onnx-graphsurgeon": "pip install 'convkit[graphsurgeon]'"}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it works, what was found, and what to type where it does not."""

    group: str
    name: str
    works: bool
    found: str
    remedy: str = ""


@click.command("doctor")
@common
@exits
def command(as_json: bool, quiet: bool, verbose: int, debug: bool) -> ExitCode:
    """Say what is installed and works here, and what to type for the rest."""
    findings = list(_examine())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    elif not quiet:
        _show(findings)
    core = all(finding.works for finding in findings if finding.group == "core")
    return ExitCode.OK if core else ExitCode.TOOLCHAIN


def _examine() -> Iterator[Finding]:
    python = f"{platform.python_version()} ({sys.executable})"
    yield Finding("core", "Python", sys.version_info >= (3, 11), python, "Python 3.11 or newer")
    for name in _CORE:
        yield _package("core", name, "pip install convkit")
    for name, remedy in _EXTRAS.items():
        yield _package("extras", name, remedy)
    yield from _oracles()
    yield from _toolchains()


def _package(group: str, name: str, remedy: str) -> Finding:
    try:
        return Finding(group, name, True, version(name))
    except PackageNotFoundError:
        return Finding(group, name, False, "not installed", remedy)


def _oracles() -> Iterator[Finding]:
    from convkit.verify import litert_gpu

    found = litert_gpu.availability()
    reason = found if isinstance(found, str) else None
    help = "a Vulkan driver, or SwiftShader: apt install chromium"
    yield Finding("oracles", "litert-gpu", reason is None, reason or "a Vulkan device answers", help)
    yield Finding("oracles", "xnnpack", True, "in ai-edge-litert")


def _toolchains() -> Iterator[Finding]:
    from convkit.backends import all_toolchains
    from convkit.backends.toolchains import without_network

    offline = bool(without_network())
    yield Finding("toolchains", "no network", offline, "tools run without a network" if offline else
                  "tools keep the network: unshare is not allowed here")  # fmt: skip
    for name, chain in all_toolchains().items():
        remedy = f"convkit toolchain install {name}"
        try:
            yield Finding("toolchains", name, True, f"{', '.join(chain.pins)} ({chain.probe()})")
        except ConvkitError as problem:
            yield Finding("toolchains", name, False, problem.diagnostics[0].message, remedy)


def _show(findings: list[Finding]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = ""
    for finding in findings:
        if finding.group != group:
            group = finding.group
            table.add_row(f"[bold]{group}[/]")
        mark = "[green]✔[/]" if finding.works else "[yellow]✘[/]"
        remedy = f"\n[dim]{escape(finding.remedy)}[/]" if finding.remedy and not finding.works else ""
        table.add_row(f"  {mark} {finding.name}", escape(finding.found) + remedy)
    console().print(table)
