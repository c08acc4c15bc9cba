"""Slides of which every tile has been answered already, as a tile of another item: copied, without a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.base.errors import BeingWritten, CorruptItem
from pipeline.base.items import TilesItem
from pipeline.teachers.teacher import Teacher
from pipeline.tiles.item.content import Found
from pipeline.tokens.job import Job
from pipeline.tokens.run.collect import Progress
from pipeline.tokens.run.in_progress import SlideInProgress


@dataclass(frozen=True)
class Work:
    """Slides of one recipe that the store lacks; `known` says by their keys which of their rows other items have."""

    job: Job
    items: Sequence[TilesItem]
    known: dict[str, Found] = field(default_factory=dict)

    @property
    def n_known(self) -> int:
        """Tiles that other items have."""
        return sum(int(found.there.sum()) for found in self.known.values())

    @property
    def n_asked(self) -> int:
        """Tiles that the teacher is asked about."""
        return sum(item.n for item in self.items) - self.n_known


def copy_whole(work: Work, teacher: Teacher, progress: Progress) -> list[TilesItem]:
    """Commit those slides of which other items have all rows; gives the others. Raises what the store raises."""
    left = []
    for item in work.items:
        found = work.known.get(item.key)
        if found is not None and found.there.all() and _copied(item, work, teacher):
            progress(item.n, item.id, True)
        else:
            left.append(item)
    return left


def _copied(item: TilesItem, work: Work, teacher: Teacher) -> bool:
    """Whether it could be: an item that has gone meanwhile is the teacher's to answer."""
    job = work.job
    try:
        slide = SlideInProgress(item, job, teacher, job.frozen(), job.reader(item), work.known[item.key])
    except (BeingWritten, CorruptItem):
        return False
    try:
        slide.copy()
    except CorruptItem as error:
        slide.abandon(error)
        return False
    except BaseException as error:
        raise slide.abandon(error) from None
    slide.commit()
    return True
