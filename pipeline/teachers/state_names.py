"""The names of a file's tensors, made those of the network: what training code wraps around them taken off.

A file may hold the state in dicts (`{"teacher": {…}, "optimizer": {…}}`), under a prefix (`module.`,
`teacher.backbone.`, `model.`), and with names of wrappers between (`_orig_mod.`). Nothing of it is guessed: the prefix
is the one under which most of the network's own names are found, and what was taken off or left out is said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Set

from torch import Tensor

_AVERAGES = (
    "teacher", "teacher_state_dict", "target_encoder", "state_dict_ema", "model_ema", "ema_model", "ema_state_dict",
    "model_ema_state_dict", "params_ema", "ema",
)  # fmt: skip
_DICTS = (
    *_AVERAGES, "state_dict", "model_state_dict", "model_state", "model", "student", "module", "backbone", "encoder",
    "net", "network", "params", "weights",
)  # fmt: skip
"""Keys under which files keep a state, the first that is there taken: a moving average goes before what it is of."""
_WRAPPERS = re.compile(r"(?:(?<=^)|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_CHUNKED = re.compile(r"(^|\.)blocks\.\d+\.(\d+)\.")
_OF_TEACHERS = ("teacher", "ema", "target")
"""In the prefix of a network that is the moving average of another, beside it in the file."""
_FOREIGN = "embeddings.patch_embeddings.projection.weight"
"""How transformers' Dinov2Model calls timm's `patch_embed.proj.weight`."""


def unwrapped(found: object) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of what a file held, and what was opened to find them; none where it holds no state.

    A state under a name that nobody knows is taken where it is the only one.
    """
    said, opened = [], list[str]()
    while isinstance(found, Mapping):
        there = [name for name in _DICTS if _holds_tensors(found.get(name))]
        if not there and (alone := states(found)) and len(alone) == 1 and not _is_state(found):
            there = alone
        if not there:
            break
        opened.append(there[0])
        others = sorted(str(name) for name, value in found.items() if name != there[0] and _holds_tensors(value))
        if others:
            said.append(f"took {there[0]!r} of the file, not {', '.join(repr(name) for name in others)}")
        found = found[there[0]]
    if len(opened) > len(said):
        said.insert(0, f"read from {'/'.join(opened)} in the file")
    told = found if isinstance(found, Mapping) else {}
    return {str(name): value for name, value in told.items() if isinstance(value, Tensor)}, said


def states(found: object) -> list[str]:
    """The keys of a file under which a state lies."""
    return [str(name) for name, value in found.items() if _is_state(value)] if isinstance(found, Mapping) else []


def stripped(state: Mapping[str, Tensor], known: Set[str]) -> tuple[dict[str, Tensor], list[str]]:
    """The state without wrappers and prefix, and what was taken off; `known` are the network's own names.

    With a prefix, what does not lie under it is left out: it is of another network (a head, a student).
    """
    said = []
    bare = {_WRAPPERS.sub("", name): value for name, value in state.items()}
    if len(bare) == len(state) and bare.keys() != state.keys():
        said.append(f"took the wrappers' names off {len(bare.keys() - state.keys())} keys")
        state = bare
    found = _prefixes(state, known)
    if found and found[0]:
        prefix, others = found[0], [name for name in found[1:] if name]
        kept = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        left = sorted(name for name in state if not name.startswith(prefix))
        said.append(f"took the prefix {prefix!r} off {len(kept)} keys")
        if left:
            said.append(
                f"left out {len(left)} keys outside of it: {', '.join(left[:3])}{' …' if len(left) > 3 else ''}"
            )
        if others:
            said.append(f"the same network also lies under {', '.join(repr(name) for name in others)}")
        state = kept
    # DINOv2 may keep its blocks in chunks, within which they are numbered on.
    if not any(_CHUNKED.search(name) for name in known):
        state = {_CHUNKED.sub(r"\1blocks.\2.", name): value for name, value in state.items()}
    return dict(state), said


def _prefixes(state: Mapping[str, Tensor], known: Set[str]) -> list[str]:
    """The prefixes under which the most names of the network lie; of several, the teacher's first."""
    counts: Counter[str] = Counter()
    for name in state:
        if name.endswith(_FOREIGN):
            counts[name.removesuffix(_FOREIGN)] += len(known)
        parts = name.split(".")
        counts.update({".".join((*parts[:i], "")): 1 for i in range(len(parts)) if ".".join(parts[i:]) in known})
    most = max(counts.values(), default=0)
    best = [prefix for prefix, n in counts.items() if n == most]
    return sorted(best, key=lambda prefix: (prefix != "", not any(word in prefix for word in _OF_TEACHERS), prefix))


def _is_state(value: object) -> bool:
    """Tensors by their names; an optimiser counts its own."""
    return isinstance(value, Mapping) and any(isinstance(v, Tensor) and isinstance(k, str) for k, v in value.items())


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(v, Tensor) or _holds_tensors(v) for v in value.values())
