"""Where a teacher's weights come from, and what they are: hub, local file, digest.

Every failure is a `TeacherError` that says how to get the weights. What the hub's library says may hold a hub token, so
it is never repeated without taking that out.
"""

from __future__ import annotations

import difflib
import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import timm
import timm.layers
import torch
from torch import Tensor, nn

from pipeline.base.errors import TeacherError
from pipeline.base.types import Json
from pipeline.teachers.dinov2_names import timm_names
from pipeline.teachers.registry import TEACHERS

_ACCESS = "ask for access on its page, accept its licence, then `huggingface-cli login` or set HF_TOKEN"
_OFFLINE = "connect once so that the hub's cache holds it, or name a local file: `weights: path/to/model.safetensors`"
_LAYERS = ("mlp_layer", "act_layer", "norm_layer")
_CLASSIFIERS = ("head.", "fc.", "classifier.", "head_dist.")


def create_model(name: str, model_kwargs: Mapping[str, Json], *, pretrained: bool) -> nn.Module:
    """timm's model of that name without its classifier; `pretrained` fetches its weights from the hub.

    `model_kwargs` are plain data: mlp_layer, act_layer and norm_layer are names of timm.layers or torch.nn.
    """
    if ":" not in name and not timm.is_model(name):
        near = difflib.get_close_matches(name, [*TEACHERS, *timm.list_models()], n=3, cutoff=0.4)
        known = "`histill teachers` and timm.list_models() list them; `hf-hub:owner/name` too"
        fix = f"did you mean {', '.join(near)}?" if near else known
        raise TeacherError("neither a short name nor a model that timm knows", where=f"teacher {name}", fix=fix)
    kwargs = {**model_kwargs, **{key: _layer(str(model_kwargs[key]), name) for key in _LAYERS if key in model_kwargs}}
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **{**kwargs, "num_classes": 0})
    except TypeError as error:
        fix = "mend `tokens.model_kwargs`"
        raise TeacherError(f"timm refuses model_kwargs: {error}", where=f"teacher {name}", fix=fix) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise _unavailable(name, error) from None
    return model


def fetch(hub: str, filename: str, name: str) -> Path:
    """A file of a hub repository, from the hub's own cache where it is there. Raises `TeacherError`."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub, filename))
    except (OSError, RuntimeError, ValueError) as error:
        raise _unavailable(name, error) from None


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Fill the model from a local safetensors or PyTorch file, in timm's key names or in transformers' of a DINOv2.

    The classifier's keys may be in the file; nothing else may be missing or left over.
    """
    where = f"teacher {name}, weights {path}"
    state = timm_names(_read_state(path, where))
    known = model.state_dict()
    state = {key: value for key, value in state.items() if key in known or not key.startswith(_CLASSIFIERS)}
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
    model.load_state_dict(state)


def weights_digest(model: nn.Module) -> str:
    """32 hex digits of the sha256 over the state's tensors by name: name, dtype, shape, bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _read_state(path: Path, where: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TeacherError("no such file", where=where, fix="mend `tokens.weights`") from None
    except pickle.UnpicklingError:
        fix = "save its state_dict as safetensors; files that run code when loaded are not read"
        raise TeacherError("more than tensors in it, or damaged", where=where, fix=fix) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise TeacherError(f"cannot be read: {first}", where=where, fix="fetch the file again") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict", state.get("model")), dict):
        state = state.get("state_dict", state.get("model"))
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TeacherError("holds no state_dict", where=where, fix="save model.state_dict() as safetensors")
    return state


def without_token(text: str) -> str:
    """The text without any hub token: the one in use, whatever it looks like, and all that look like one."""
    from huggingface_hub import get_token

    token = get_token()
    return re.sub(r"hf_\w+", "hf_…", text.replace(token, "hf_…") if token else text)


def _layer(layer: str, name: str) -> type[nn.Module]:
    """A layer's class by its name, timm's before torch's."""
    found: type[nn.Module] | None = getattr(timm.layers, layer, None) or getattr(nn, layer, None)
    if found is None:
        fix = "take a name of timm.layers or torch.nn, such as SwiGLUPacked or SiLU"
        raise TeacherError(f"no layer is called {layer!r}", where=f"teacher {name}, tokens.model_kwargs", fix=fix)
    return found


def _unavailable(name: str, error: Exception) -> TeacherError:
    """What a failed fetch means for the person who wanted it."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    where = f"teacher {name}"
    if isinstance(error, GatedRepoError | RepositoryNotFoundError):
        return TeacherError("the hub does not give it to you: gated, private or misspelt", where=where, fix=_ACCESS)
    first = without_token(str(error).splitlines()[0] if str(error) else type(error).__name__)
    if isinstance(error, OSError):
        return TeacherError(f"its weights cannot be fetched: {first}", where=where, fix=f"{_OFFLINE}. Gated? {_ACCESS}")
    return TeacherError(
        f"timm cannot build it: {first}", where=where, fix="see `tokens.model_kwargs`, or give `weights:`"
    )


def _some(what: str, names: list[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{what}: {', '.join(names[:shown]) or 'none'}{more}"
