"""The checkout: params.yaml, the slide table, git and DVC as they are set up here."""

from __future__ import annotations

import configparser
import importlib.metadata
import shutil
import subprocess
from pathlib import Path

from pipeline.base.errors import HistillError
from pipeline.base.names import at_home
from pipeline.machine.finding import Finding, costs, stops
from pipeline.params.slides import SlidesParams
from pipeline.remote.address import is_url
from pipeline.slides.table import Row, read_table

_NO_DVC = "`dvc repro` does not run; `histill STAGE` does"


def tools(root: Path) -> list[Finding]:
    """git and DVC, of the project at `root`."""
    return [_git(root), _dvc(root)]


def slide_table(params: SlidesParams) -> Finding:
    """Whether the table can be read, and its files are there."""
    cost = "no slide, no run"
    try:
        table = read_table(params.table, params.missing)
    except HistillError as error:
        return stops("slides", str(error).partition("\n")[0], cost, error.fix or "histill scan DIR > slides.csv")
    rows, base = table.rows, Path(params.table).absolute().parent
    gone = [row.slide_id for row in rows if _is_gone(row, base)]
    far = sum(is_url(row.path) for row in rows)
    found = f"{params.table}: {len(rows)} rows" + (f", {far} of them in a bucket, not looked at" if far else "")
    if not rows or len(gone) == len(rows):
        what = f"{found}, of which no file is there" if rows else found
        return stops("slides", what, cost, "mend the column `path`; is the disk mounted?")
    if gone or table.refused:
        named = ", ".join([*(refusal.id for refusal in table.refused), *gone][:4])
        what = f"{found}; {len(table.refused)} cannot be used, {len(gone)} files are not there: {named}"
        return costs("slides", what, "those are refused, and the rest go on", "mend their rows")
    return Finding(what="slides", found=found)


def _is_gone(row: Row, base: Path) -> bool:
    """Of a slide in a bucket nothing is asked: its stage says so by its name."""
    return row.demo is None and not is_url(row.path) and not (base / at_home(row.path)).exists()


def _git(root: Path) -> Finding:
    if shutil.which("git") is None:
        cost = "`histill store prune`, studies and `dvc exp` do not run; stages do"
        return costs("git", "not found", cost, "install git")
    version = _said("git", "--version").removeprefix("git version ").strip()
    if _without_scm(root):
        return Finding(what="git", found=f"{version}; this project is without (core.no_scm)")
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no commit"])[0]
        if "ambiguous argument 'HEAD'" in done.stderr:
            return costs(
                "git", f"{version}; no commit yet", "`dvc exp` and studies want one", "git add . && git commit"
            )
        mend = "git init (or `dvc config core.no_scm true`); for another user's checkout as git says"
        return stops("git", f"{version}; {said}", _NO_DVC, mend)
    return Finding(what="git", found=version)


def _without_scm(root: Path) -> bool:
    """As DVC's own configuration says, the local one before that of the project."""
    config = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
        return config.getboolean("core", "no_scm", fallback=False)
    except (configparser.Error, ValueError):
        return False


def _dvc(root: Path) -> Finding:
    if shutil.which("dvc") is None:
        return stops("dvc", "not found", _NO_DVC, ". .venv/bin/activate, or run through `make`")
    version = importlib.metadata.version("dvc")
    if not (root / ".dvc").is_dir() or not (root / "dvc.yaml").is_file():
        lacking = ".dvc" if not (root / ".dvc").is_dir() else "dvc.yaml"
        return stops("dvc", f"{version}; no {lacking} here", _NO_DVC, "run in the checkout; without .dvc: dvc init")
    locked = root / ".dvc" / "tmp" / "rwlock"
    if locked.exists() and not _writable(locked):
        return stops("dvc", f"{version}; {locked} is another user's", _NO_DVC, "use a checkout of your own")
    return Finding(what="dvc", found=f"{version}; project {root}")


def _writable(file: Path) -> bool:
    try:
        with open(file, "ab"):
            return True
    except OSError:
        return False


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout
