"""A report as lines of text, without what a run has measured of its machine, so that two runs can be compared.

A line is what stands in one block of the page (a paragraph, a row of a table), tags stripped; a picture stands as the
checksum of its bytes, a drawing as that of its elements beside its own words. Of the sections `speed` and `tradeoff`,
and of blocks that state a speed, the words alone are kept: numbers become `#`, drawings are left out, and so is which
of the two is the faster and whether the machine was busy.
"""

from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser

MEASURED_SECTIONS = ("speed", "tradeoff")
_SPEED = re.compile(r"tiles a second|processes wanted")
_NUMBER = re.compile(r"\d[\d,.]*( [kMG]\b)?|(?<= )–(?= |$)")
_BY_SPEED = re.compile(r" \(the student is \w+ there\)|That machine was busy : .* than milliseconds\.")
_CAUTION = re.compile(r"speed: .* processes wanted|To know before trusting a figure:")
_BLOCKS = frozenset(("article", "caption", "details", "div", "dl", "figcaption", "h1", "h2", "h3", "header", "li",
                     "main", "nav", "p", "pre", "section", "tr"))  # fmt: skip
_SILENT = frozenset(("style", "script"))

Line = tuple[str, str]
"""Section of the page (empty outside of all) and text."""


def page_lines(html: str) -> list[Line]:
    """The lines of a page, in its order."""
    page = _Page()
    page.feed(html)
    page.close()
    page.end_block()
    return page.lines


def text_lines(text: str) -> list[Line]:
    """The lines of a text without tags that are not blank."""
    return [("", line.strip()) for line in text.splitlines() if line.strip()]


def _short_sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[Line] = []
        self.section = ""
        self._words: list[str] = []
        self._drawing: list[str] | None = None
        self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag in _BLOCKS:
            self.end_block()
        if tag == "section":
            self.section = told.get("id") or ""
        elif tag in _SILENT:
            self._silent = True
        elif tag == "img":
            self._words.append(f"[picture {_short_sum(told.get('src') or '')}]")
        elif tag == "svg":
            self._drawing = []
        if self._drawing is not None:
            self._drawing.append(f"{tag} {sorted((name, value or '') for name, value in attrs)}")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = False
        elif tag == "svg" and self._drawing is not None:
            if self.section not in MEASURED_SECTIONS:
                self._words.append(f"[drawing {_short_sum(' '.join(self._drawing))}]")
            self._drawing = None
        elif tag in _BLOCKS:
            self.end_block()
            if tag == "section":
                self.section = ""

    def handle_data(self, data: str) -> None:
        if not self._silent and (self._drawing is None or self.section not in MEASURED_SECTIONS):
            self._words.extend(data.split())

    def end_block(self) -> None:
        """Keep what has been read since the last block as a line."""
        text = " ".join(self._words)
        self._words = []
        if _CAUTION.match(text):
            return
        if self.section in MEASURED_SECTIONS or _SPEED.search(text):
            text = _NUMBER.sub("#", _BY_SPEED.sub("", text))
            text = re.sub(r"\b(slower|faster)\b", "faster", text).strip()
        if text:
            self.lines.append((self.section, text))
