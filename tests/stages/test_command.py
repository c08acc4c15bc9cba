"""What a stage prints: whatever a slide is called."""

from __future__ import annotations

import pytest

from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.manifest import Refusal
from pipeline.base.progress import console
from stages.command import show_refusals


def test_a_refused_id_is_printed_as_it_is() -> None:
    refused = (Refusal(id="[/b]", reason="[red]unreadable", fix="see [1]"),)
    with console.capture() as shown:
        show_refusals(SlidesManifest(refused=refused))
    for text in ("[/b]", "[red]unreadable", "see [1]"):
        assert text in shown.get()


def test_what_an_earlier_stage_has_told_is_only_counted() -> None:
    old, new = Refusal(id="old", reason="no mpp"), Refusal(id="new", reason="no tissue")
    with console.capture() as shown:
        show_refusals(TilesManifest(refused=(old, new)), {old})
    assert "no tissue" in shown.get() and "no mpp" not in shown.get() and "the 1 refused" in shown.get()


def test_nothing_refused_prints_nothing() -> None:
    with console.capture() as shown:
        show_refusals(SlidesManifest())
    assert shown.get() == ""


@pytest.mark.parametrize("name", ["[/b]", "slide [1].svs"])
def test_an_error_is_printed_as_it_is(name: str) -> None:
    with console.capture() as shown:
        console.print(f"error: {name}", style="bold red", soft_wrap=True)
    assert name in shown.get()
