"""What the run took beside what was planned: the stages' own metrics, of stages that ran since the plan was made."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from pipeline.base.errors import PlanError
from pipeline.base.files import write_json
from pipeline.base.types import Frozen
from pipeline.machine.plan.planned import Plan, StagePlan

FILE = Path("metrics/plan.json")


class Outcome(Frozen):
    """Of one stage: planned and taken; a ratio is taken over planned, None where one of them is not known.

    Of `embed`, whose slides need not be those of the plan, it is a tile's where the numbers of tiles differ.
    """

    stage: str
    planned_s: float | None
    taken_s: float | None
    ratio_s: float | None
    planned_tiles: int | None = None
    made_tiles: int | None = None
    planned_nbytes: int | None = None
    made_nbytes: int | None = None
    why: str = ""


def save(plan: Plan) -> None:
    """Where `read` finds it."""
    write_json(FILE, plan.model_dump(mode="json"))


def read() -> Plan:
    """The plan that was made here last. Raises `PlanError` where there is none."""
    try:
        return Plan.model_validate_json(FILE.read_bytes())
    except FileNotFoundError:
        raise PlanError("no plan was made here", where=str(FILE), fix="histill plan, then run, then this") from None
    except (OSError, ValidationError) as error:
        raise PlanError(f"not a plan: {error}", where=str(FILE), fix="histill plan makes another") from None


def compare(plan: Plan, metrics: Path = Path("metrics")) -> list[Outcome]:
    """Each stage of the plan, and `embed`."""
    made = FILE.stat().st_mtime
    return [_outcome(stage, metrics / f"{stage.stage}.json", made) for stage in plan.stages]


def _outcome(planned: StagePlan, file: Path, made: float) -> Outcome:
    stage = planned.stage
    told = {"stage": stage, "planned_s": planned.seconds}
    if not file.exists() or file.stat().st_mtime <= made:
        return Outcome.model_validate({**told, "taken_s": None, "ratio_s": None, "why": "has not run since"})
    found = json.loads(file.read_bytes())
    taken = float(found["seconds"])
    tiles = found.get("tiles_seen") if stage == "student" else found.get("tiles")
    ratio, why = taken / planned.seconds if planned.seconds else None, ""
    if _cached(stage, found):
        why = "it was in the store already, in part or whole"
    elif stage == "embed" and ratio is not None and planned.tiles and tiles != planned.tiles:
        ratio, why = ratio * planned.tiles / tiles, "other tiles than were planned: the ratio is a tile's"
    writes = stage in ("tiles", "tokens", "embed")
    return Outcome(
        stage=stage,
        planned_s=planned.seconds,
        taken_s=taken,
        ratio_s=ratio,
        planned_tiles=planned.tiles if tiles is not None else None,
        made_tiles=tiles,
        planned_nbytes=planned.nbytes if writes else None,
        made_nbytes=found.get("nbytes") if writes else None,
        why=why,
    )


def _cached(stage: str, found: dict[str, float]) -> bool:
    """Whether a stage's metrics say that it had less to do than all."""
    if stage == "student":
        return bool(found.get("cached"))
    return stage == "tokens" and "tiles_per_s" not in found
