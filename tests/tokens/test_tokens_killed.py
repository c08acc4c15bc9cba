"""kill -9 in the middle of a slide, in a real process, then the run that goes on."""

import os
import signal
import subprocess

import torch
from made.partials import partials
from made.python_server import loaded_python
from made.tiles import file_bytes, tiles_json
from project import ROOT
from torch.nn.modules.module import register_module_forward_hook

from pipeline.base.store import Store
from pipeline.params.tokens import TokensParams
from pipeline.teachers.teacher import Trunk
from pipeline.tokens.item.writer import chunk_rows
from pipeline.tokens.stage import make_tokens

SLIDES = {"a": 1100}
RUN = """
import signal, sys
import torch
from made.stopping import second_opening, signal_at
from made.tiles import tiles_json
from pipeline.params.tokens import TokensParams
from pipeline.base.store import Store
from pipeline.tokens.stage import make_tokens
torch.set_num_threads(int(sys.argv[3]))
store = Store(sys.argv[1])
# Its second line would be the second chunk's.
signal_at(second_opening("journal"), signal.SIGKILL)
make_tokens(tiles_json(store, {"a": 1100}), TokensParams.model_validate_json(sys.argv[2]), store, 512)
"""


def run(store: Store, params: TokensParams) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [loaded_python(), "-c", RUN, str(store.root), params.model_dump_json(), str(torch.get_num_threads())]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_killed_run_goes_on_and_ends_byte_for_byte_as_an_uninterrupted_one(tiny_params, tmp_path):
    params = tiny_params.model_copy(update={"batch_size": 48})
    whole, killed = Store(tmp_path / "whole"), Store(tmp_path / "killed")
    tiles = tiles_json(whole, SLIDES)
    tiles_json(killed, SLIDES)
    child = run(killed, params)
    assert child.returncode == -signal.SIGKILL, child.stderr
    (partial,) = partials(killed)
    done = len((partial / "journal").read_text().splitlines())
    # What a write that the kill cut short leaves behind.
    (partial / "cls" / ".zarr.json.4711").write_bytes(b"half a file")

    asked: list[int] = []
    hook = register_module_forward_hook(lambda module, *_: asked.append(1) if isinstance(module, Trunk) else None)
    manifests = [make_tokens(tiles, params, killed, 512)]
    hook.remove()
    left = SLIDES["a"] - done * chunk_rows(SLIDES["a"], "int8", 1, 16, 24)
    assert done > 0 and len(asked) == -(-max(0, left) // 48), "the chunks that the journal names are not asked again"
    manifests.insert(0, make_tokens(tiles, params, whole, 512))
    assert manifests[0].model_dump() == manifests[1].model_dump()
    assert file_bytes(killed, manifests[1], "a") == file_bytes(whole, manifests[0], "a")
