"""What git and DVC remember of a checkout: the manifests that each ref's dvc.lock names, and where DVC keeps them.

Git is asked by its plumbing and DVC for its configuration; DVC's locks, which the stage that asks may hold, are left
alone. Whatever fails is an error, since what a checkout names would else be taken for nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from pipeline.base.errors import UnknownNames
from pipeline.upkeep import git

WORKSPACE = "workspace"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Checkout:
    """A project: its working trees, and where it is DVC's, its refs and its cache."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def at(cls, folder: Path) -> Checkout:
        """The project that a folder is in. Raises `UnknownNames` where it is in none, as where it was mistyped."""
        for root in (folder.absolute(), *folder.absolute().parents) if folder.is_dir() else ():
            if (root / ".dvc").is_dir():
                return cls(root)
        if (folder / "params.yaml").is_file():
            # Stages run without DVC, too: then there is the workspace alone.
            return cls(folder.absolute())
        what = "no project" if folder.is_dir() else "no such folder"
        raise UnknownNames(what, where=str(folder), fix="name a checkout, the folder that `dvc repro` is run in")

    def workspaces(self) -> Iterator[tuple[str, Path]]:
        """(place, folder): the project's own, its other working trees', and those of experiments that run."""
        yield WORKSPACE, self.root
        for tree in git.other_worktrees(self.root) if self._has_git else ():
            yield f"worktree {tree}", tree
        prefix = git.prefix(self.root) if self._has_git else ""
        for made in ("*", "standalone/*"):
            for folder in sorted((self.root / ".dvc" / "tmp" / "exps").glob(made)):
                yield f"running experiment {folder.name}", folder / prefix

    def locks(self) -> Iterator[tuple[str, str]]:
        """(place, text of dvc.lock) of the workspace and of every git ref, experiments included."""
        if (self.root / "dvc.lock").is_file():
            yield WORKSPACE, (self.root / "dvc.lock").read_text(encoding="utf-8")
        for ref, _, text in git.versions(self.root, "dvc.lock") if self._has_git else ():
            yield ref.removeprefix("refs/heads/").removeprefix("refs/"), text.decode()

    def cached_file(self, md5: str) -> Path:
        """Where DVC's cache keeps a file, whether it is there or not."""
        return self._cache / "files" / "md5" / md5[:2] / md5[2:]

    @functools.cached_property
    def _config(self) -> Mapping[str, Mapping[str, object]]:
        # Imported here: it is a tenth of a second, and the stages import this room.
        from dvc.config import Config, ConfigError

        try:
            found: Mapping[str, Mapping[str, object]] = Config(str(self.root / ".dvc"))
        except ConfigError as error:
            raise UnknownNames(f"DVC's configuration: {error}", where=str(self.root), fix="dvc config --list") from None
        return found

    @property
    def _cache(self) -> Path:
        """DVC's `cache.dir`, which it gives as an absolute path, or where it is by default."""
        return Path(str(self._config["cache"].get("dir") or self.root / ".dvc" / "cache"))

    @property
    def _has_git(self) -> bool:
        return (self.root / ".dvc").is_dir() and not self._config["core"].get("no_scm")


@functools.lru_cache(maxsize=1024)
def locked_manifests(lock: str) -> Mapping[str, str]:
    """The md5 of every manifest among the outputs in a dvc.lock, by its path."""
    stages = ((yaml.load(lock, _Loader) or {}).get("stages") or {}).values()
    outs = (out for stage in stages for out in stage.get("outs", []))
    return {
        out["path"]: out["md5"]
        for out in outs
        if re.fullmatch(r"artifacts/\w+\.json", out.get("path", "")) and "md5" in out
    }
