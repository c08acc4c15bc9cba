"""params.yaml read and checked whole; a stage is given the sections that it takes, each made by its own model alone.

The check of the other sections can refuse the file and nothing else: it returns nothing, so no stage's result depends
on their models, and dvc.yaml need not name them (tests/test_dvc_yaml.py holds both).
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TypeVar

import yaml

from pipeline.base.errors import ParamsError
from pipeline.params import STAGES, text
from pipeline.params.site import SiteParams
from pipeline.params.whole import check_params

P = TypeVar("P", bound=SiteParams)


def load_params(wanted: type[P], path: Path | str = "params.yaml") -> P:
    """The sections of the file that the model names; what the file leaves out takes its default.

    Raises `ParamsError` with the file, the key and the nearest known key where one is misspelt, in any section.
    """
    found = _read(Path(path))
    check_params(found, str(path))
    return wanted.model_validate({name: keys for name, keys in found.items() if name in wanted.model_fields})


def _read(path: Path) -> dict[Hashable, object]:
    """{section: its keys}; a section whose lines are all commented out is null, and means its defaults."""
    try:
        raw = text.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError("file not found", where=str(path), fix="run from the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        tab = "'\\t'" in str(error)
        fix = "indent with spaces: YAML takes no tabs" if tab else "mend the line it names, or the one above"
        raise ParamsError(f"not valid YAML: {error}", where=str(path), fix=fix) from None
    if raw is not None and not isinstance(raw, dict):
        raise ParamsError("the top level is not a mapping of sections", where=str(path), fix=f"sections: {STAGES}")
    return {name: {} if keys is None else keys for name, keys in (raw or {}).items()}
