"""`histill embed SLIDES --out DIR`: from what is asked for on the command line to a job that is done.

No project is needed: without a params.yaml the defaults hold, and the student's folder says the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import EmbedError
from pipeline.base.limits import usable_cores
from pipeline.base.partials import file_sha256
from pipeline.base.progress import console, seconds_text
from pipeline.base.store import Store
from pipeline.embed.asked import find_slides
from pipeline.embed.crashes import Journal
from pipeline.embed.encoders.choose import ENGINES, student_encoder
from pipeline.embed.encoders.encoder import Encoder, Facts
from pipeline.embed.formats import FORMATS
from pipeline.embed.job import Job, Outcome
from pipeline.embed.meter import metered
from pipeline.embed.patch_form import PatchForm
from pipeline.embed.stamps import Settings
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from pipeline.student.shipped import ADAPTER_WEIGHTS_FILE, Shipped, adapter_folder, nested_digest, require_size


class EmbedParams(SiteParams):
    """The sections of params.yaml that hold for slides that are embedded in a project."""

    slides: SlidesParams = SlidesParams()
    tiles: TilesParams = TilesParams()
    tokens: TokensParams = TokensParams()

    @property
    def scratch(self) -> Path:
        """Below which slides that lie in a bucket are fetched: the store's folder."""
        return Store.find(self.store.root).root


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; `teacher` in place of the student; `dense`: patch tokens too, kept as fp16 or
    int8; `width`: a nested size in place of the full embedding; `threads` None is one a core."""

    out: Path
    form: str = "trident"
    student: Path = Path("models/student")
    teacher: str | None = None
    coords: Path | None = None
    stands_for: str | None = None
    dense: str | None = None
    width: int | None = None
    engine: str = "auto"
    device: str | None = None
    threads: int | None = None
    target_mpp: float | None = None
    tile_px: int | None = None


def project_params(path: Path = Path("params.yaml")) -> EmbedParams:
    """Of the project at hand, else the defaults."""
    return load_params(EmbedParams, path) if path.exists() else EmbedParams()


def embed_slides(paths: Sequence[Path], wanted: Wanted, journal: Journal | None = None) -> Outcome:
    """Write one file a slide to `wanted.out`; what cannot be is in left_out.csv there; `journal`: see crashes.py.

    Raises `EmbedError` for what cannot be asked, `StudentError`, `TeacherError` or `EngineError` for an encoder that
    cannot be used.
    """
    if wanted.form not in FORMATS:
        raise EmbedError(f"no such format: {wanted.form}", where="--format", fix=f"one of {', '.join(FORMATS)}")
    if wanted.engine not in ENGINES:
        raise EmbedError(f"no such engine: {wanted.engine}", where="--engine", fix=f"one of {', '.join(ENGINES)}")
    if wanted.dense and not FORMATS[wanted.form].dense:
        able = ", ".join(name for name, form in FORMATS.items() if form.dense)
        raise EmbedError(
            f"files of {wanted.form} have no place for patch tokens", where="--dense", fix=f"--format {able}"
        )
    if wanted.width is not None and (wanted.dense or wanted.teacher is not None):
        other = "--dense" if wanted.dense else "--teacher"
        fix = "leave out one of them; two runs, with an --out each, where both are wanted"
        raise EmbedError(f"nested sizes are of a student's embedding, and not with {other}", where="--width", fix=fix)
    journal = journal or Journal()
    params, threads = project_params(), wanted.threads or usable_cores()
    facts, load = _encoder(wanted, params, threads)
    tiles = params.tiles.model_copy(
        update={
            name: value
            for name, value in (("target_mpp", wanted.target_mpp), ("tile_px", wanted.tile_px))
            if value is not None
        }
    )
    settings = Settings(wanted.form, TilesParams.model_validate(tiles.model_dump()), wanted.stands_for)
    asked, left_out = find_slides(paths, params.slides, params.scratch, wanted.coords)
    with metered(len(asked) + len(left_out), journal.began) as meter:
        job = Job(facts, settings, wanted.out, load, threads, journal)
        outcome = job.run(asked, left_out, meter)
        outcome.seconds = meter.passed_s
        _say(outcome, meter.slides_an_hour, wanted.out)
    return outcome


def _encoder(wanted: Wanted, params: EmbedParams, threads: int) -> tuple[Facts, Callable[[], Encoder]]:
    """What answers, and how to load it: a student while the first slide is looked at, a teacher at once."""
    if wanted.teacher is not None:
        if wanted.dense:
            fix = "leave out --dense; in a project, dvc repro tokens keeps a teacher's patch tokens"
            raise EmbedError("patch tokens of slides are a student's", where="--dense", fix=fix)
        from pipeline.embed.encoders.modules import device_of, load_teacher_module

        known = {one.teacher: one for one in params.tokens.each}
        told = known.get(wanted.teacher) or TokensParams(teacher=wanted.teacher)
        device = device_of(wanted.device)
        encoder = load_teacher_module(told, wanted.engine, device, params.slides.demo_px)
        return encoder.facts, lambda: encoder
    shipped = Shipped.of_folder(wanted.student)
    weights, width = adapter_folder(wanted.student) / ADAPTER_WEIGHTS_FILE, wanted.width
    if width is not None:
        require_size(wanted.student, width)
    facts = Facts(
        name=shipped.name if width is None else f"{shipped.name}-{width}",
        digest=shipped.digest,
        width=width or shipped.width,
        input_px=shipped.input_px,
        patch=PatchForm.of_student(wanted.student, shipped.width, wanted.dense) if wanted.dense else None,
        adapter=file_sha256(weights)[:32] if wanted.dense else None,
        nested=None if width is None else nested_digest(wanted.student),
    )
    return facts, lambda: student_encoder(shipped, facts, wanted.engine, wanted.device, threads)


def _say(outcome: Outcome, slides_an_hour: float, out: Path) -> None:
    slides, took = f"{outcome.made} slide{'s' * (outcome.made != 1)}", seconds_text(outcome.seconds)
    told = [f"{slides} made ({outcome.tiles} tiles in {took}"]
    told[0] += f", {slides_an_hour:.0f} slides/h)" if outcome.made else ")"
    if outcome.there:
        told.append(f"{outcome.there} were there")
    if outcome.left_out:
        told.append(f"{len(outcome.left_out)} left out, named in {out / 'left_out.csv'}")
    console.print(f"embed: {', '.join(told)}", style="bold", soft_wrap=True)
