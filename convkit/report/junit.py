"""A check as JUnit XML: one test suite for each model, one test case for each target."""

from __future__ import annotations

from xml.etree import ElementTree

from convkit.report.causes import causes
from convkit.report.check import Checked, CheckResult
from convkit.report.text import headline, some


def to_junit(result: CheckResult) -> str:
    """A broken limit is a failure with the causes as its text, a model that cannot be checked an error."""
    root = ElementTree.Element("testsuites", name="convkit check")
    for model in result.models:
        cases = [_case(c) for c in result.checked if c.report.model.path == model]
        for failure in (f for f in result.failures if f.model == model):
            case = _element("testcase", name=failure.target or "every target", classname=model, time="0")
            said = failure.diagnostics[0]
            ElementTree.SubElement(case, "error", type=said.code, message=said.message).text = "\n".join(
                map(str, failure.diagnostics)
            )
            cases.append(case)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=model,
            tests=str(len(cases)),
            failures=str(sum(case.find("failure") is not None for case in cases)),
            errors=str(sum(case.find("error") is not None for case in cases)),
        )
        suite.extend(cases)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _element(tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.Element(tag, attributes)


def _case(checked: Checked) -> ElementTree.Element:
    report = checked.report
    seconds = sum(t for name, t in report.timings.items() if name != "total")
    case = _element("testcase", name=report.target.name, classname=report.model.path, time=f"{seconds:.3f}")
    lines = [
        f"{cause.op} x{len(cause.ops)} ({', '.join(cause.rules) or cause.verdict.value}): {cause.why}\n"
        f"  {some(cause.places)}".rstrip()
        for cause in causes(report.left_behind)
    ]
    if checked.breaches:
        message = "; ".join(breach.message for breach in checked.breaches)
        failure = ElementTree.SubElement(case, "failure", type=checked.breaches[0].limit, message=message)
        failure.text = _clean("\n".join([headline(report), *lines]))
    elif lines:
        ElementTree.SubElement(case, "system-out").text = _clean("\n".join([headline(report), *lines]))
    return case


def _clean(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c for c in text if c in "\t\n" or ord(c) >= 32)
