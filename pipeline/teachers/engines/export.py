"""The trunk as one graph that TensorRT takes whole: exported, constants folded, rules checked.

The rules are what keeps an engine one engine. An operator without a converter would split the graph and send every
batch back to PyTorch in the middle; a shape that depends on data, or a batch fixed at the example's size, would build
another engine for each tail. They are checked here, where no GPU is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._inductor.constant_folding import constant_fold
from torch.export import Dim, ExportedProgram, export
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from pipeline.base.errors import EngineError, first_line

_OPERATORS = (
    # Products and convolutions.
    "linear matmul mm bmm addmm baddbmm conv2d convolution scaled_dot_product_attention "
    # Norms, activations, softmax.
    "layer_norm native_layer_norm batch_norm _native_batch_norm_legit_no_training group_norm "
    "gelu silu relu relu6 sigmoid tanh hardtanh hardswish hardsigmoid leaky_relu softmax _softmax "
    # Elementwise and reductions.
    "add sub mul div neg exp sqrt rsqrt pow abs maximum minimum clamp sin cos where eq gt lt logical_not "
    "mean sum amax max_pool2d avg_pool2d adaptive_avg_pool2d "
    # Shapes.
    "reshape view _unsafe_view flatten permute transpose t unsqueeze squeeze expand cat stack split split_with_sizes "
    "chunk unbind select slice repeat pad constant_pad_nd roll clone contiguous detach to _to_copy type_as full_like "
    # What the model optimiser puts around fp8 layers.
    "quantize_op "
    # Gone in inference, or not of the data.
    "dropout _assert_tensor_metadata sym_size getitem lift_fresh_copy alias"
)
CONVERTIBLE = frozenset(_OPERATORS.split())
"""Operators of ATen, without overload, that torch-tensorrt's dynamo front end converts or lowers away.

From its converter registry (py/torch_tensorrt/dynamo/conversion/aten_ops_converters.py) and its lowering passes; a
list of what encoders use, not of all that it can do.
"""


def export_trunk(trunk: nn.Module, side_px: int, batch_max: int, dtype: torch.dtype = torch.float32) -> ExportedProgram:
    """The graph of a trunk for 1 to `batch_max` images (N, 3, side_px, side_px), what depends on weights alone folded.

    timm resamples the position embedding inside the exported graph even where it fits, with an operator that has no
    converter; it depends on no image, so that it is computed here, once. Raises `EngineError` where it cannot be
    traced.
    """
    weight = next(trunk.parameters())
    image_NCHW = torch.zeros(min(2, batch_max), 3, side_px, side_px, dtype=dtype, device=weight.device)
    shapes = ({0: Dim("batch", min=1, max=batch_max)},) if batch_max > 1 else None
    try:
        with torch.no_grad():
            folded = export(trunk, (image_NCHW,), dynamic_shapes=shapes).module(check_guards=False)
            constant_fold(folded)
            return export(folded, (image_NCHW,), dynamic_shapes=shapes)
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError, ValueError) as error:
        what, fix = f"torch.export cannot trace it: {first_line(error)}", "set `tokens.engine: eager`"
        raise EngineError(what, where="the trunk", fix=fix) from error


def violations(program: ExportedProgram, batch_max: int) -> list[str]:
    """What keeps a program from being one engine for 1 to `batch_max` images; empty where nothing does."""
    nodes = list(program.graph.nodes)
    calls = [node for node in nodes if node.op == "call_function"]
    found = [f"no converter for {name}" for name in sorted({_name(node) for node in calls} - CONVERTIBLE)]
    found += [f"the shape of {node.name} depends on data" for node in nodes if _data_dependent(node)]
    inputs, outputs = program.graph_signature.user_inputs, program.graph_signature.user_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        found.append(f"{len(inputs)} inputs and {len(outputs)} outputs, not one image batch and one answer")
        return found
    for name in (*inputs, *outputs):
        size = next(node for node in nodes if node.name == name).meta["val"].shape[0]
        fixed = isinstance(size, int)
        if batch_max > 1 and fixed:
            found.append(f"the batch of {name} is fixed at {size}")
        elif not fixed:
            bounds = program.range_constraints.get(size.node.expr)
            if bounds is None or bounds.lower > 1 or bounds.upper < batch_max:
                found.append(f"the batch of {name} may be {bounds}, not 1 to {batch_max}")
    return found


def require_convertible(program: ExportedProgram, batch_max: int, where: str) -> None:
    """Raise `EngineError` with all that `violations` finds."""
    found = violations(program, batch_max)
    if found:
        raise EngineError(
            f"TensorRT cannot take it as one engine: {'; '.join(found)}",
            where=where,
            fix="set `tokens.engine: compile`",
        )


def _name(node: Node) -> str:
    """`aten.add.Tensor` and `aten.add_.Tensor` are `add`, Python's own operators their names."""
    target = node.target
    packet = getattr(target, "overloadpacket", None)
    name = str(packet).rsplit(".", 1)[-1] if packet is not None else str(getattr(target, "__name__", target))
    return name.removesuffix("_") if packet is not None else name


def _data_dependent(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and bool(free_unbacked_symbols(value))
