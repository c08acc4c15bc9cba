"""What git knows of a repository, by its plumbing. A git that fails is an error: silence would read as "nothing"."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.base.errors import UnknownNames


def other_worktrees(root: Path) -> list[Path]:
    """The same folder of every other working tree of the repository that `root` is in."""
    others = [Path(tree["worktree"]) / prefix(root) for tree in _trees(root)]
    return [folder for folder in others if folder.is_dir() and not folder.samefile(root)]


def versions(root: Path, name: str) -> Iterator[tuple[str, str, bytes]]:
    """(ref, blob id, content) of a file of this folder at every ref, and at every detached HEAD, that has it."""
    refs = _git(root, "for-each-ref", "--format=%(refname)").decode().splitlines()
    asked = [*refs, *(tree["HEAD"] for tree in _trees(root) if "detached" in tree)]
    folder = prefix(root)
    out = _git(root, "cat-file", "--batch", given=[f"{ref}:{folder}{name}" for ref in asked])
    at = 0
    for ref in asked:
        end = out.index(b"\n", at)
        said = out[at:end].decode().split(" ")
        at = end + 1
        if said[-1] == "missing":
            continue
        if len(said) != 3 or said[1] != "blob":
            raise UnknownNames(f"git says of {name} at {ref}: {' '.join(said)}", where=str(root), fix="git fsck")
        yield ref, said[0], out[at : at + int(said[2])]
        at += int(said[2]) + 1


def prefix(root: Path) -> str:
    """The folder within its repository: empty at the top, else with a slash at its end."""
    return _git(root, "rev-parse", "--show-prefix").decode().rstrip("\n")


def _trees(root: Path) -> list[dict[str, str]]:
    """Each working tree of the repository: `worktree`, its folder; `HEAD`, a commit; and `branch` or `detached`."""
    text = _git(root, "worktree", "list", "--porcelain", "-z").decode()
    records = (record.split("\0") for record in text.split("\0\0") if record)
    return [{line.partition(" ")[0]: line.partition(" ")[2] for line in lines} for lines in records]


def _git(root: Path, *words: str, given: Sequence[str] = ()) -> bytes:
    """A git command's output. Raises `UnknownNames` where it fails, with what git says of it."""
    stdin = "".join(f"{line}\n" for line in given).encode()
    try:
        done = subprocess.run(["git", "-C", str(root), *words], input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        raise UnknownNames("there is no git to ask", where=str(root), fix="install git") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        fix = "what git says above; a project without git says `dvc config core.no_scm true`"
        raise UnknownNames(f"git {words[0]} fails: {said}", where=str(root), fix=fix)
    return done.stdout
