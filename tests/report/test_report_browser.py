"""The page in a real Chromium: narrow and wide, in both colour schemes."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import check, look, needs_browser, printed_pages

from pipeline.base.store import Store
from pipeline.params.report import ReportParams
from pipeline.report.across.pareto import Pareto
from pipeline.report.page import Manifests, build_report

pytestmark = needs_browser


@pytest.mark.parametrize(
    ("scheme", "shown"),
    [
        ("light", [("report.html", 390), ("report.html", 1280), ("slides.html", 1280)]),
        ("dark", [("report.html", 390), ("slides.html", 390)]),
    ],
    ids=["light", "dark"],
)
def test_the_pages_in_a_browser(
    manifests: Manifests,
    store: Store,
    plots: Path,
    compared: Pareto,
    tmp_path: Path,
    scheme: str,
    shown: list[tuple[str, int]],
):
    summary = manifests["evaluate"].summary.model_copy(update={"learnt_slides": ("gamma",)})
    manifests["evaluate"] = manifests["evaluate"].model_copy(update={"summary": summary})
    build_report(manifests, ReportParams(), store, compared, tmp_path / "report.html", plots)
    check(tmp_path, shown, scheme)


def test_what_is_folded_on_the_screen_is_printed(manifests: Manifests, store: Store, compared: Pareto, tmp_path: Path):
    pages = []
    for keys in (1, 300):
        recipe = {f"key {i}": i for i in range(keys)}
        manifests["tiles"] = manifests["tiles"].model_copy(update={"recipe": recipe})
        build_report(manifests, ReportParams(), store, compared, tmp_path / f"{keys}.html")
        pages.append(printed_pages(tmp_path / f"{keys}.html"))
    assert 1 < pages[0] < pages[1] - 2


def test_an_error_on_a_page_would_be_seen(tmp_path: Path):
    page = """<!doctype html><style>p { width: 800px; overflow: auto; color: #ccc }</style>
        <p>wide, faint<img src="https://elsewhere.invalid/x.png"><script>oops()</script>"""
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    (tmp_path / "empty.html").write_text("<!doctype html>", encoding="utf-8")
    (_, found), log = look(tmp_path, [("empty.html", 390), ("report.html", 390)], "light")
    assert found["scroll"] > found["client"]
    assert found["broken"] == 1 and any("elsewhere" in name for name in found["fetched"])
    assert len(found["faint"]) == 1 and len(found["stuck"]) == 1
    assert "CONSOLE" in log
