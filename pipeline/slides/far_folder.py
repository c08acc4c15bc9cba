"""The slides below a URL, by the names of their objects: nothing is fetched to see what it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.base.errors import ParamsError, TableError
from pipeline.remote.address import checked
from pipeline.remote.objects import Objects
from pipeline.slides.far import SEVERAL_FILES
from pipeline.slides.files import MIRAX
from pipeline.slides.images import IMAGE_SUFFIXES

SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm"}
)


@dataclass(frozen=True)
class FarFolder:
    """What lies below a URL: URLs of `slides`, sorted, names of slides that are not fetched, suffixes of pictures."""

    url: str
    slides: tuple[str, ...]
    several_files: tuple[str, ...]
    pictures: tuple[str, ...]

    def said(self) -> Iterator[str]:
        """What has to be known of it, a line each."""
        yield "listed by name, and not opened: the stage slides looks at each"
        for name in self.several_files:
            yield f"left out: {name!r} (a slide of several files is not fetched by URL; copy all of them here)"
        if self.pictures:
            told = ", ".join(f"{n} {suffix}" for suffix, n in sorted(Counter(self.pictures).items()))
            yield f"pictures, which are read from folders here alone: {told}"


def look_below(url: str) -> FarFolder:
    """Raises `TableError`, which repeats no secret, for a URL that cannot be read so, and `RemoteError`."""
    try:
        whole = checked(url)
        names = Objects(whole).below()
    except ParamsError as error:
        raise TableError(error.what, where="the URL that is to be listed", fix=error.fix) from None
    paths = [PurePosixPath(name) for name in names]
    # A MIRAX slide's data lies in a folder of its name.
    indices = {path.with_suffix("") for path in paths if path.suffix.lower() == MIRAX}
    slides, several, pictures = list[str](), list[str](), list[str]()
    for name, path in zip(names, paths, strict=True):
        suffix = path.suffix.lower()
        if any(part.startswith(".") for part in path.parts) or indices & set(path.parents):
            continue
        if suffix in SEVERAL_FILES:
            several.append(name)
        elif suffix in SLIDE_SUFFIXES:
            slides.append(f"{whole}/{name}")
        elif suffix in IMAGE_SUFFIXES:
            pictures.append(suffix)
    return FarFolder(whole, tuple(slides), tuple(several), tuple(pictures))
