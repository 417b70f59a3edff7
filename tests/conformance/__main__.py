"""python -m tests.conformance [-p N]: run every case, write the baseline and docs/conformance.md."""

from __future__ import annotations

import argparse

import onnx

from convkit.files import write_all
from tests.conformance import baseline, page
from tests.conformance.run import run_all
from tests.conformance.suite import cases


def main() -> None:
    """Run, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-p", "--processes", type=int, default=4)
    options = parser.parse_args()
    everything = cases()
    results = run_all(range(len(everything)), processes=options.processes)
    for line in baseline.regressions(results) if baseline.BASELINE.exists() else []:
        print(line)
    baseline.write(results, everything, onnx.__version__)
    write_all(page.PAGE.parent, {page.PAGE.name: page.render(baseline.read()).encode()})


if __name__ == "__main__":
    main()
