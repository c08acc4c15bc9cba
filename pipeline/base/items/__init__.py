"""What the stages hand to one another: the items and manifests of `slides`, `tiles`, `tokens` and `student`.

They are here and not in the rooms that fill them, since the rooms below read them without entering those above.
The files are described in docs/artifacts.md.
"""

from pipeline.base.items.slides import (
    TRAIN,
    UNKNOWN,
    WITH_TISSUE,
    ImportedFacts,
    Level,
    OfSlide,
    SlideFile,
    SlideItem,
    SlidesManifest,
    SlidesSummary,
    TeacherFacts,
    TilesItem,
    TilesManifest,
    TilesSummary,
    TokensItem,
    TokensManifest,
    TokensSummary,
)
from pipeline.base.items.students import (
    AdapterArguments,
    FileItem,
    HeadFacts,
    StartFacts,
    StudentFacts,
    StudentManifest,
)

__all__ = [
    "TRAIN",
    "UNKNOWN",
    "WITH_TISSUE",
    "AdapterArguments",
    "FileItem",
    "HeadFacts",
    "ImportedFacts",
    "Level",
    "OfSlide",
    "SlideFile",
    "SlideItem",
    "SlidesManifest",
    "SlidesSummary",
    "StartFacts",
    "StudentFacts",
    "StudentManifest",
    "TeacherFacts",
    "TilesItem",
    "TilesManifest",
    "TilesSummary",
    "TokensItem",
    "TokensManifest",
    "TokensSummary",
]
