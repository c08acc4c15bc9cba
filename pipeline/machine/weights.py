"""Whether each configured teacher's weights are here, or would be given by the hub: its token, and one small question.

Nothing is downloaded. Where the hub is asked, it is for the head of the file that timm asks for first.
"""

from __future__ import annotations

from pipeline.base.errors import HistillError
from pipeline.base.files import dvc_root
from pipeline.base.names import at_home
from pipeline.machine.finding import Finding, costs, stops
from pipeline.params.tokens import TokensParams
from pipeline.teachers.registry import entry_of

FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order in which timm looks for them."""
_TIMEOUT_S = 10.0
_COST = "the stage `tokens` cannot ask the teacher"
_OFFLINE = "connect once, so that the hub's cache holds it, or name a file: tokens.weights"


def weights(params: TokensParams) -> list[Finding]:
    """The hub's token, and each teacher."""
    return [_token(params), *map(_teacher, params.each)]


def _token(params: TokensParams) -> Finding:
    from huggingface_hub import get_token

    if get_token():
        return Finding(what="hub token", found="there")
    asked = {one.teacher: entry_of(one.teacher) for one in params.each if one.weights is None}
    hubs = {name: f"huggingface.co/{entry.hub}" for name, entry in asked.items() if entry is not None and entry.gated}
    if not hubs:
        return Finding(what="hub token", found="none; no gated teacher is asked for")
    cost = f"{', '.join(hubs)}: gated, the hub gives to those who were granted it"
    mend = f"ask for access at {', '.join(hubs.values())}, then `hf auth login`"
    return costs("hub token", "none", cost, mend)


def _teacher(params: TokensParams) -> Finding:
    name = params.teacher
    if name == "demo":
        return Finding(what="teacher", found="demo: trained here on made slides, nothing is downloaded")
    if params.weights is not None:
        return _local(name, params.weights)
    try:
        hub = _hub(name)
    except Exception as error:
        return stops("teacher", f"{name}: {error}", _COST, "`histill teachers` and timm.list_models() list them")
    if hub is None:
        cost = "whether its weights come is seen when the stage `tokens` begins"
        return costs(
            "teacher", f"{name}: timm fetches it by an address of its own", cost, "name a file: tokens.weights"
        )
    from huggingface_hub import try_to_load_from_cache

    for file in FILES:
        if isinstance(try_to_load_from_cache(hub, file), str):
            return Finding(what="teacher", found=f"{name}: {hub} is in the hub's cache")
    return _asked(name, hub)


def _local(name: str, told: str) -> Finding:
    path = at_home(told)
    path = path if path.is_absolute() or path.exists() else dvc_root() / path
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        return stops("teacher", f"{name}: {path}: {error.strerror}", _COST, "mend tokens.weights in params.yaml")
    if empty:
        return stops("teacher", f"{name}: {path} is empty", _COST, "fetch the file again")
    return Finding(what="teacher", found=f"{name}: {path}")


def _hub(name: str) -> str | None:
    """owner/name on the hub; None where timm has another address. Raises `HistillError` for an unknown name."""
    entry = entry_of(name)
    if entry is not None:
        return entry.hub
    if name.startswith("hf-hub:"):
        return name.removeprefix("hf-hub:").partition("@")[0]
    import timm

    if not timm.is_model(name):
        raise HistillError("neither a short name nor a model that timm knows")
    found = timm.get_pretrained_cfg(name).hf_hub_id
    return None if found is None else str(found) if str(found) != "timm/" else f"timm/{name}"


def _asked(name: str, hub: str) -> Finding:
    """What the hub says."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    error: Exception | None = None
    for file in FILES:
        try:
            size = get_hf_file_metadata(hf_hub_url(hub, file), timeout=_TIMEOUT_S).size
        except EntryNotFoundError as without:
            error = without
        except (GatedRepoError, RepositoryNotFoundError):
            mend = f"ask for access at huggingface.co/{hub}, accept its licence, then `hf auth login` or set HF_TOKEN"
            return stops("teacher", f"{name}: the hub does not give {hub} to you (gated or private)", _COST, mend)
        except Exception as unreached:
            # Offline, a proxy, a certificate: what the hub's library raises is of any kind, and may hold the token.
            kind = type(unreached).__name__
            return stops("teacher", f"{name}: not here, and the hub is not reached ({kind})", _COST, _OFFLINE)
        else:
            told = f", {size / 1e6:.0f} MB" if size else ""
            return Finding(what="teacher", found=f"{name}: the hub gives {hub}{told}")
    return stops("teacher", f"{name}: {hub} has none of {', '.join(FILES)} ({type(error).__name__})", _COST, _OFFLINE)
