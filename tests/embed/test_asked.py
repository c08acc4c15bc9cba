"""Which slides `histill embed` is asked for."""

import unicodedata
from pathlib import Path

from pipeline.embed.asked import find_slides
from pipeline.params.slides import SlidesParams


def test_a_table_written_on_another_system_names_the_files_that_are_here(tmp_path: Path) -> None:
    """macOS writes a letter and its accent apart, and what is typed on Linux is one letter."""
    for form in ("NFC", "NFD"):
        (tmp_path / (unicodedata.normalize(form, "Präparat ") + f"{form}.svs")).touch()
        (tmp_path / (unicodedata.normalize(form, "Mäske ") + f"{form}.png")).touch()
    table = tmp_path / "slides.csv"
    rows = "Pr\u00e4parat NFD.svs,M\u00e4ske NFD.png\nPra\u0308parat NFC.svs,Ma\u0308ske NFC.png\n"
    table.write_text(f"path,mask\n{rows}")
    asked, left_out = find_slides([table], SlidesParams(), tmp_path / "scratch")
    assert not left_out
    for one, form in zip(asked, ("NFD", "NFC"), strict=True):
        assert one.source.path.is_file() and one.source.path.stem.endswith(form)
        assert one.source.mask is not None and one.source.mask.is_file()
