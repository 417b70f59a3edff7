"""The renderings of a check that are files, by the name of their option."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from convkit.report.check import CheckResult
from convkit.report.html import to_html
from convkit.report.junit import to_junit
from convkit.report.markdown import to_markdown
from convkit.report.model_explorer import to_model_explorer
from convkit.report.sarif import to_sarif

RENDERERS: Mapping[str, Callable[[CheckResult], str]] = {
    "html": to_html,
    "sarif": to_sarif,
    "junit": to_junit,
    "markdown": to_markdown,
    "model-explorer": to_model_explorer,
}
