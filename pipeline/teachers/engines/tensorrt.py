"""`tensorrt`: the trunk as one TensorRT engine, by torch-tensorrt's dynamo front end, which this file alone imports.

`pip install -e '.[tensorrt]'` brings the library, `'.[fp8]'` NVIDIA's model optimiser beside it. TensorRT types
strongly: the precision is the model's, so that the trunk is copied to bf16 whole (eager and compile keep the residual
stream in float32); the gate decides whether that is near enough. fp8 quantises the linear layers, calibrated on the
golden tiles. One profile: 1 to `batch_size` images, tuned for `batch_size`, so that a tail needs no padding.

Building takes minutes, so the engine is kept in the store under what it depends on: weights, GPU, versions, precision,
batch. It is no result: no manifest names it, and `histill store prune` drops it. Loading one runs code, so that only an
engine of this user's is loaded (trusted.py).

None of this has run yet: there was no GPU. What can be checked without one is in export.py and build_check.py.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
from types import ModuleType

import torch
from torch import Tensor, nn
from torch._inductor.constant_folding import add_dont_constant_fold

from pipeline.base.errors import EngineError, first_line
from pipeline.base.progress import console
from pipeline.base.store import Store, recipe_key
from pipeline.base.types import Json, Recipe
from pipeline.teachers.engines import trusted
from pipeline.teachers.engines.export import export_trunk, require_convertible
from pipeline.teachers.network import Network

BUILD_VERSION = 3
"""Part of the engine's key: count up when the same inputs would be built otherwise."""
_FILE = "trunk.ep"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.bfloat16}


class TensorRT:
    """A network's trunk in TensorRT. Raises `EngineError` where the library or the GPU is missing."""

    name = "tensorrt"

    def __init__(
        self,
        network: Network,
        device: torch.device,
        precision: str,
        batch_size: int,
        store: Store,
        golden_NHWC: Tensor | None = None,
    ) -> None:
        library = _torch_tensorrt(network.where)
        if device.type != "cuda":
            fix = "set `tokens.engine: auto`"
            raise EngineError("TensorRT needs an NVIDIA GPU", where=f"device {device}", fix=fix)
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self._network, self._dtype = network.to(device), _DTYPES[precision]
        recipe = engine_recipe(network, device, precision, batch_size, library, golden_NHWC)
        file = trusted.find(store, recipe_key(recipe), _FILE)
        if file is None:
            ref = trusted.place(recipe_key(recipe))
            console.print("tokens: building the TensorRT engine, which takes minutes, once", soft_wrap=True)
            with store.write(ref, recipe) as folder:
                program = self._exported(golden_NHWC)
                require_convertible(program, batch_size, network.where)
                shape = (3, network.input_px, network.input_px)
                span = library.Input(
                    min_shape=(1, *shape),
                    opt_shape=(batch_size, *shape),
                    max_shape=(batch_size, *shape),
                    dtype=self._dtype,
                )
                # One engine or an error: a graph in pieces would run, slowly, and nobody would know.
                built = library.dynamo.compile(
                    program,
                    arg_inputs=[span],
                    min_block_size=1,
                    require_full_compilation=True,
                    use_explicit_typing=True,
                    # Its default rounds what fp32 reads to ten bits, and no gate of fp32 lets that pass.
                    disable_tf32=True,
                )
                library.save(built, str(folder / _FILE), arg_inputs=[span])
            file = store.path(ref) / _FILE
            trusted.remember(file)
        self._run = library.load(str(file)).module()
        # Recorded once a batch size, and then no kernel waits for the CPU to launch it.
        library.runtime.set_cudagraphs_mode(True)

    @torch.inference_mode()
    def __call__(self, image_NHWC: Tensor) -> Tensor:
        """The trunk's answer for at most `batch_size` uint8 images (N, H, W, 3) on the engine's device."""
        image_NCHW = self._network.normalise(image_NHWC).to(self._dtype).contiguous()
        raw: Tensor = self._run(image_NCHW)
        return raw

    def _exported(self, golden_NHWC: Tensor | None) -> torch.export.ExportedProgram:
        network, trunk = self._network, copy.deepcopy(self._network.trunk).to(self._dtype)
        if self.precision != "fp8":
            return export_trunk(trunk, network.input_px, self.batch_size, self._dtype)
        optimiser = _model_optimiser(network.where)
        if golden_NHWC is None:
            raise EngineError("fp8 is calibrated on golden tiles, and there are none", where=network.where)

        def calibrate(model: nn.Module) -> None:
            for part_NHWC in torch.split(golden_NHWC, self.batch_size):
                model(network.normalise(part_NHWC.to(self.device)).to(self._dtype))

        with torch.no_grad():
            quantised = optimiser.quantize(trunk, optimiser.FP8_DEFAULT_CFG, forward_loop=calibrate)
        # A folded weight would be a bf16 one that was rounded to fp8, and its product one in bf16.
        add_dont_constant_fold(torch.ops.tensorrt.quantize_op.default)
        with optimiser.utils.export_torch_mode():
            return export_trunk(quantised, network.input_px, self.batch_size, self._dtype)


def engine_recipe(
    network: Network,
    device: torch.device,
    precision: str,
    batch_size: int,
    library: ModuleType,
    golden_NHWC: Tensor | None,
) -> Recipe:
    """All that a built engine depends on. An engine of another GPU or version does not load, or loads and is wrong."""
    recipe: dict[str, Json] = {
        "build_version": BUILD_VERSION,
        "teacher": network.describe(),
        "gpu": torch.cuda.get_device_name(device),
        "capability": list(torch.cuda.get_device_capability(device)),
        "torch": torch.__version__,
        "torch_tensorrt": library.__version__,
        "tensorrt": importlib.import_module("tensorrt").__version__,
        "precision": precision,
        "batch_size": batch_size,
    }
    if precision == "fp8" and golden_NHWC is not None:
        recipe["golden"] = hashlib.sha256(golden_NHWC.cpu().contiguous().numpy().data).hexdigest()[:32]
    return recipe


def is_built(network: Network, device: torch.device, precision: str, batch_size: int, store: Store) -> bool:
    """Whether the store has the engine, and this user may load it; of fp8, which is calibrated first, nobody asks."""
    recipe = engine_recipe(network, device, precision, batch_size, _torch_tensorrt(network.where), None)
    return trusted.find(store, recipe_key(recipe), _FILE) is not None


def why_missing() -> str | None:
    """Why torch_tensorrt cannot be imported, in a line; None where it can."""
    try:
        importlib.import_module("torch_tensorrt")
    except Exception as error:
        # It loads libraries of three packages; what a broken one raises is not always an ImportError.
        return first_line(error)
    return None


def _torch_tensorrt(where: str) -> ModuleType:
    try:
        import torch_tensorrt
    except (ImportError, OSError) as error:
        # Without libnvinfer the import fails with an OSError.
        raise _missing("torch_tensorrt", "tensorrt", where, error) from None
    library: ModuleType = torch_tensorrt
    return library


def _model_optimiser(where: str) -> ModuleType:
    try:
        import modelopt.torch.quantization
    except (ImportError, OSError) as error:
        raise _missing("modelopt", "fp8", where, error) from None
    library: ModuleType = modelopt.torch.quantization
    return library


def _missing(library: str, extra: str, where: str, error: Exception) -> EngineError:
    what = f"{library} cannot be imported: {first_line(error)}"
    fix = f"pip install -e '.[{extra}]', or set `tokens.engine: auto` and `tokens.precision: auto`"
    return EngineError(what, where=where, fix=fix)
