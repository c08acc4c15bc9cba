"""Several teachers' answers to the same tiles as one manifest: the first's own, the others' beside it in `also`.

Each is made as it would be alone, under its own recipe: whoever adds a teacher, takes one away or makes another the
first computes that one at most. A slide that one teacher could not answer is refused for all, so that a tile that is
trained on has every answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.base.errors import TeacherError
from pipeline.base.items import TokensManifest
from pipeline.params.tokens import TokensParams
from pipeline.teachers.registry import entry_of


def require_each_once(each: Sequence[TokensParams]) -> None:
    """Raise `TeacherError` where two names are of one teacher: `uni` is `hf-hub:MahmoodLab/UNI`."""
    known: dict[str, str] = {}
    for name in [one.teacher for one in each]:
        entry = entry_of(name)
        if entry is not None and (other := known.setdefault(entry.hub, name)) != name:
            fix = f"name it once: a student has one head a teacher ({entry.hub})"
            raise TeacherError(f"{other} and {name} are the same teacher", where="tokens.also", fix=fix)


def together(first: TokensManifest, further: Sequence[TokensManifest]) -> TokensManifest:
    """The first teacher's manifest with the others'; without others, the first as it is.

    What the others' items are in the store is among `uses`, so that a Histill that knows one teacher keeps them too.
    """
    if not further:
        return first
    each = (first, *further)
    refused = {refusal.id: refusal for manifest in reversed(each) for refusal in manifest.refused}
    kept = [_without(manifest, refused) for manifest in each]
    beside = {name for manifest in kept[1:] for name in manifest.refs()}
    timings = {f"{manifest.teacher.name}_{name}": v for manifest in further for name, v in manifest.timings.items()}
    return kept[0].model_copy(
        update={
            "refused": tuple(refused.values()),
            "uses": tuple(dict.fromkeys((*first.uses, *sorted(beside)))),
            "also": tuple(manifest.model_copy(update={"refused": ()}) for manifest in kept[1:]),
            "timings": first.timings | timings,
        }
    )


def _without(manifest: TokensManifest, refused: Collection[str]) -> TokensManifest:
    """Sorted, and without the slides that another teacher could not answer."""
    items = tuple(sorted((item for item in manifest.items if item.id not in refused), key=lambda item: item.id))
    summary = manifest.summary.model_copy(update={"slides": len(items), "tiles": sum(item.n for item in items)})
    return manifest.model_copy(update={"items": items, "summary": summary})
