"""A curve and its name in the legend have one colour, and no two curves of a plot the same."""

from __future__ import annotations

import re

from project import ROOT

from pipeline.report.sections import CURVES


def test_each_curve_has_the_colour_of_its_name() -> None:
    css = (ROOT / "pipeline" / "report" / "templates" / "report.css").read_text()
    curve = {role: colour(css, rf"\.chart \.curve\.{role} {{ stroke: var\(--(\w+)\)", "ink") for role in CURVES}
    name = {role: colour(css, rf"\.legend \.{role}::before {{ background: var\(--(\w+)\)", "floor") for role in CURVES}
    assert curve == name
    assert len(set(curve.values())) == len(CURVES)


def colour(css: str, rule: str, default: str) -> str:
    """What a rule says, or what stands where there is none."""
    found = re.search(rule, css)
    return found[1] if found else default
