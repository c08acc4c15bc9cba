"""Where a teacher's weights come from, and what they are: hub, local file, digest.

Every failure is a `TeacherError` that says how to get the weights. What the hub's library says may hold a hub token, so
it is never repeated without taking that out.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from pipeline.base.errors import TeacherError, first_line, some
from pipeline.base.types import Json
from pipeline.teachers.arguments import BadArgument, blame, require_possible, require_types, with_layers
from pipeline.teachers.dinov2_names import dinov2_names
from pipeline.teachers.registry import TEACHERS
from pipeline.teachers.state_files import gone, read_file
from pipeline.teachers.state_names import states, stripped, unwrapped

_ACCESS = "ask for access on its page, accept its licence, then `huggingface-cli login` or set HF_TOKEN"
_OFFLINE = "connect once so that the hub's cache holds it, or name a local file: `weights: path/to/model.safetensors`"
_CLASSIFIERS = ("head.", "fc.", "classifier.", "head_dist.")


def create_model(name: str, model_kwargs: Mapping[str, Json], *, pretrained: bool) -> nn.Module:
    """timm's model of that name without its classifier; `pretrained` fetches its weights from the hub.

    `model_kwargs` are plain data: mlp_layer, act_layer and norm_layer are names of timm.layers or torch.nn.
    """
    if ":" not in name and not timm.is_model(name):
        fix = _near(name)
        raise TeacherError("neither a short name nor a model that timm knows", where=f"teacher {name}", fix=fix)

    def build(kwargs: Mapping[str, object], pretrained: bool = False) -> nn.Module:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **{**kwargs, "num_classes": 0})
        return model

    where = f"teacher {name}, tokens.model_kwargs"
    try:
        require_possible(model_kwargs)
        kwargs = with_layers(model_kwargs)
        model = build(kwargs, pretrained)
        require_types(model, model_kwargs)
    except BadArgument as error:
        raise TeacherError(error.what, where=where, fix=error.fix) from None
    except Exception as error:
        # What timm raises for an argument that it does not check is of any kind.
        refused = blame(build, kwargs, error)
        if refused is None:
            raise _unavailable(name, error) from None
        raise TeacherError(refused.what, where=where, fix=refused.fix) from None
    return model


def _near(name: str) -> str:
    """What a name that nobody knows may have been meant for."""
    if Path(name).suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors"):
        return "a file is `weights:`; `teacher:` is a short name or timm's name of its architecture"
    plain = name.strip().lower()
    near = difflib.get_close_matches(plain, ["demo", *TEACHERS, *timm.list_models()], n=3, cutoff=0.4)
    known = "`histill teachers` and timm.list_models() list them; `hf-hub:owner/name` too"
    return f"did you mean {', '.join(near)}?" if near else known


def fetch(hub: str, filename: str, name: str) -> Path:
    """A file of a hub repository, from the hub's own cache where it is there. Raises `TeacherError`."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub, filename))
    except (OSError, RuntimeError, ValueError) as error:
        raise _unavailable(name, error) from None


def require_there(path: Path, name: str) -> None:
    """Raise `TeacherError` where the file is not there, ahead of a large network that takes seconds to make."""
    if not path.exists():
        raise gone(_where(path, name))


def _where(path: Path, name: str) -> str:
    return f"teacher {name}, weights {path}"


def load_weights(model: nn.Module, path: Path, name: str) -> tuple[str, ...]:
    """Fill the model from a local safetensors or PyTorch file; what was taken off, left out and resampled for that.

    Names are timm's, or those that timm's own filter for the architecture knows (DINOv2's among them), or
    transformers' of a DINOv2, wrapped as training code wraps them (`state_names.py`). Position embeddings of another
    side are resampled. The classifier's keys may be in the file; nothing else may be missing or left over.
    """
    where = _where(path, name)
    known = model.state_dict()
    state, said = read_state(path, where)
    state, taken_off = stripped(state, known.keys())
    state = dinov2_names(state)
    said += taken_off
    state = {key: value for key, value in state.items() if key in known or not key.startswith(_CLASSIFIERS)}
    if not _fits(state, known):
        state, resampled = resampled_by_timm(model, state)
        said += resampled
    missing, unexpected = sorted(known.keys() - state.keys()), sorted(state.keys() - known.keys())
    if missing or unexpected:
        what = f"keys do not match: {_some('missing', missing)}; {_some('unexpected', unexpected)}"
        raise TeacherError(what, where=where, fix="is it this architecture, saved with timm's names? See model_kwargs")
    wrong = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(known[key].shape)}"
        for key in sorted(known)
        if state[key].shape != known[key].shape
    ]
    if wrong:
        raise TeacherError(_some("shapes differ", wrong), where=where, fix="see model_kwargs (img_size, patch_size …)")
    require_weights(state, known, where)
    model.load_state_dict(state)
    return tuple(said)


def require_weights(state: Mapping[str, Tensor], known: Mapping[str, Tensor], where: str) -> None:
    """Raise `TeacherError` where the network takes real numbers and the file has others, which torch would cast."""
    reals = [name for name in sorted(known) if known[name].is_floating_point()]
    whole = [f"{name} ({state[name].dtype})" for name in reals if not state[name].is_floating_point()]
    if whole:
        fix = "take weights that are not quantised: float32, float16 or bfloat16"
        raise TeacherError(_some("not real numbers", whole), where=where, fix=fix)
    if broken := [name for name in reals if not torch.isfinite(state[name].float()).all()]:
        fix = "save them again, from a checkpoint before the training went wrong"
        raise TeacherError(_some("NaN or infinite", broken), where=where, fix=fix)


def _fits(state: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> bool:
    return state.keys() == known.keys() and all(state[key].shape == value.shape for key, value in known.items())


def resampled_by_timm(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The state as timm's own filter for the architecture renames and resamples it, and what was resampled.

    Nothing but position embeddings may change its size: a kernel of other patches is another network.
    """
    rename = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if rename is None:
        return dict(state), []
    dinov2 = "register_tokens" in state or any(name.endswith("mlp.w12.weight") for name in state)
    # By the mask token timm's filter knows DINOv2's names, and files from which it was taken have them too.
    marked = {**state, "mask_token": torch.empty(0)} if dinov2 else dict(state)
    try:
        found: dict[str, Tensor] = dict(rename(marked, model))
    except Exception:
        # A file of another architecture; that its names or shapes do not match is said with the names as they are.
        return dict(state), []
    said = []
    for name, value in found.items():
        before = state.get(name, value)
        if "pos_embed" in name and before.ndim == 3:
            old, new = (math.isqrt(of.shape[1]) for of in (before, value))
            if old != new:
                said.append(f"resampled {name} from {old} x {old} to {new} x {new} positions")
        elif before.numel() != value.numel():
            found[name] = before
    return found, said


def weights_digest(model: nn.Module) -> str:
    """The digest of a model's state."""
    return state_digest(model.state_dict())


def state_digest(state: Mapping[str, Tensor]) -> str:
    """32 hex digits of the sha256 over the state's tensors by name: name, dtype, shape, bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def read_state(path: Path, where: str) -> tuple[dict[str, Tensor], list[str]]:
    """The file's state, and what was opened in it to get there; by its bytes, whatever its suffix says.

    No file runs code when it is read. Raises `TeacherError`; whether its tensors are weights `require_weights` says.
    """
    found = read_file(path, where)
    state, said = unwrapped(found)
    if not state:
        several = states(found)
        what = f"holds several state_dicts: {', '.join(several)}" if several else "holds no state_dict"
        fix = "save the one that is meant" if several else "save model.state_dict() as safetensors"
        raise TeacherError(what, where=where, fix=fix)
    return state, said


def without_token(text: str) -> str:
    """The text without any hub token: the one in use, whatever it looks like, and all that look like one."""
    from huggingface_hub import get_token

    token = get_token()
    return re.sub(r"hf_\w+", "hf_…", text.replace(token, "hf_…") if token else text)


def _unavailable(name: str, error: Exception) -> TeacherError:
    """What a failed fetch means for the person who wanted it."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    where = f"teacher {name}"
    if isinstance(error, GatedRepoError | RepositoryNotFoundError):
        return TeacherError("the hub does not give it to you: gated, private or misspelt", where=where, fix=_ACCESS)
    first = without_token(first_line(error))
    if name.startswith("local-dir:") and isinstance(error, OSError):
        return TeacherError(f"cannot be read: {first}", where=where, fix="name a folder with config.json and weights")
    if name.startswith("local-dir:"):
        fix = "name a timm model's folder; an exported student, which answers by its classifier, is no teacher"
        return TeacherError(f"timm cannot build it: {first}", where=where, fix=fix)
    if "Unknown model source" in first:
        return TeacherError("not a name that timm reads", where=where, fix="a hub's model is `hf-hub:owner/name`")
    if "pretrained tag" in first:
        base = name.partition(".")[0]
        tags = ", ".join(timm.list_pretrained(f"{base}.*")) or "none"
        return TeacherError(first, where=where, fix=f"its weights are: {tags}; or leave the tag out")
    if isinstance(error, OSError):
        return TeacherError(f"its weights cannot be fetched: {first}", where=where, fix=f"{_OFFLINE}. Gated? {_ACCESS}")
    return TeacherError(
        f"timm cannot build it: {first}", where=where, fix="see `tokens.model_kwargs`, or give `weights:`"
    )


def _some(what: str, names: list[str], shown: int = 4) -> str:
    return f"{what}: {some(names, shown) or 'none'}"
