"""The HTML report in headless Chromium: it opens, sorts, filters, answers clicks, and fits small screens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from convkit.report import OpEntry, OpVerdict, OriginEntry, Reason, Report
from convkit.report.check import Checked, CheckResult
from convkit.report.gate import Limits, breaches
from convkit.report.html import to_html
from tests.unit import reports

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def large(number: int = 2000) -> Report:
    """Residual blocks of `number` operators, every seventh refused."""
    refused = Reason("R-1", "<b>kernel</b> of 7 & more", sources=("a page",), fixes=("shrink-kernel",))
    ops = tuple(
        OpEntry(
            i,
            ("CONV_2D", "RELU", "ADD", "MUL")[i % 4],
            OpVerdict.FALLBACK if i % 7 == 3 else OpVerdict.ACCELERATED,
            (refused,) if i % 7 == 3 else (),
            OriginEntry((f"node_{i}",), (f"blocks.{i // 4}",), (f"net.py:{i + 1}",), ("CK-FUSE-001",)),
            macs=1000 * (i % 50) if i % 4 == 0 else 0,
            bytes=4096 + i,
            partition=None if i % 7 == 3 else 0,
            reads=tuple(sorted({max(i - 1, 0), max(i - 6, 0)})) if i else (),
            makes=("1x8x8x16 float32",),
        )
        for i in range(number)
    )
    return replace(reports.partial(), ops=ops, levers=(), findings=())


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    every = [reports.whole(), large()]
    result = CheckResult(tuple(Checked(report, breaches(report, Limits())) for report in every))
    path = tmp_path_factory.mktemp("html") / "report.html"
    path.write_text(to_html(result), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Any, page_file: Path) -> Iterator[Any]:
    """The page open at 1440 px; anything on the console or any request to a network fails the test."""
    opened = browser.new_page(viewport={"width": 1440, "height": 900})
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda problem: said.append(str(problem)))
    opened.on(
        "request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url)
    )
    start = perf_counter()
    opened.goto(page_file.as_uri())
    assert perf_counter() - start < 5
    yield opened
    opened.close()
    assert said == []


def _column(page: Any, number: int) -> list[str]:
    found: list[str] = page.locator(f"#table tbody td:nth-child({number})").all_text_contents()
    return [text.strip() for text in found]


def test_opens_with_what_needs_a_look(page: Any) -> None:
    assert page.locator("#outcome").text_content().split() == ["✘", "failed", "2", "models,", "1", "target"]
    assert "vit[tiny].onnx" in page.locator("#subject").text_content()
    assert page.locator("#nodes g").count() == 2000
    assert page.locator("#table tbody tr").count() == 2000
    assert page.locator("#matrix button[aria-pressed=true]").count() == 1


def test_the_matrix_chooses_the_report(page: Any) -> None:
    page.locator("#matrix button", has_text="whole").click()
    assert "unet.onnx" in page.locator("#subject").text_content()
    assert page.locator("#table tbody tr").count() == 3
    assert page.locator("#causes table").count() == 0


def test_sorts(page: Any) -> None:
    page.locator("#table th[data-sort=macs] button").click()
    assert page.locator("#table th[data-sort=macs]").get_attribute("aria-sort") == "descending"
    assert _column(page, 4)[:3] == ["48.0 k"] * 3
    page.locator("#table th[data-sort=op] button").click()
    assert _column(page, 2) == sorted(_column(page, 2))
    page.locator("#table th[data-sort=index] button").click()
    page.locator("#table th[data-sort=index] button").click()
    assert _column(page, 1)[0] == "1999"


def test_filters_by_verdict_and_by_words(page: Any) -> None:
    page.locator("#verdicts [data-verdict=accelerated]").click()
    expected = len(range(3, 2000, 7))
    assert page.locator("#table tbody tr").count() == expected
    assert page.locator("#nodes g:not(.dim)").count() == expected
    page.locator("#search").fill("conv_2d shrink-kernel")
    playwright.expect(page.locator("#table tbody tr")).to_have_count(len(range(24, 2000, 28)))
    assert set(_column(page, 2)) == {"CONV_2D"}
    page.locator("#search").fill("#24")
    playwright.expect(page.locator("#table tbody tr")).to_have_count(1)
    assert _column(page, 1) == ["24"]


def test_a_click_shows_origin_and_cure(page: Any) -> None:
    page.locator("#table tbody tr[data-op='10']").click()
    details = page.locator("#details").text_content()
    for text in (
        "ADD",
        "#10",
        "<b>kernel</b> of 7 & more",
        "a page",
        "shrink-kernel",
        "net.py:11",
        "blocks.2",
        "node_10",
    ):
        assert text in details
    assert page.locator("#nodes g.chosen").get_attribute("data-op") == "10"
    page.locator("#nodes g[data-op='11']").click()
    assert "net.py:12" in page.locator("#details").text_content()
    assert page.locator("#table tr.chosen").get_attribute("data-op") == "11"


def test_a_cause_leads_to_its_first_operator(page: Any) -> None:
    page.locator("#causes [data-cause='0']").click()
    assert "R-1" in page.locator("#details").text_content()


def test_zooms_and_pans(page: Any) -> None:
    svg = page.locator("#graph svg")
    before = svg.get_attribute("viewBox")
    svg.scroll_into_view_if_needed()
    svg.hover()
    page.mouse.wheel(0, -300)
    playwright.expect(svg).not_to_have_attribute("viewBox", before)
    page.locator("[data-zoom=fit]").click()
    assert "far" in page.locator("#graph").get_attribute("class")


@pytest.mark.parametrize("width", [375, 1440])
def test_fits_the_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    small = (
        "[...document.querySelectorAll('td, p, dd, th')].filter(e => e.offsetParent && e.textContent.trim() \
        && parseFloat(getComputedStyle(e).fontSize) < 12).length"
    )
    assert page.evaluate(small) == 0
    assert page.locator("#table tbody tr").first.is_visible()
