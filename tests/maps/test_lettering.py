"""Names on pictures: every letter is one that the font has, and different names stay different."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.maps import lettering
from pipeline.maps.lettering import has, written

NAMES = ["Příliš kuň", "Zażółć", "Слайд 7", "腫瘤", "plain_01"]


@pytest.fixture(params=["the best here", "Pillow's own"])
def font(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    caches = (lettering.font_of, lettering.has, lettering._letter)
    for cache in caches:
        cache.cache_clear()
    if request.param != "the best here":
        monkeypatch.setattr(lettering, "_NAME", "of_no_machine.ttf")
    yield request.param
    for cache in caches:
        cache.cache_clear()


def test_what_is_written_has_letters_and_tells_names_apart(font: str) -> None:
    told = [written(name) for name in NAMES]
    assert all(has(letter) for text in told for letter in text) and len(set(told)) == len(NAMES)
    assert told[-1] == "plain_01" and told[3] in ("腫瘤", "[816B][7624]")
    if font != "the best here":
        assert told[0] == "Prilis kun"
