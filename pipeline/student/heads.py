"""A student's last layer: a linear head a teacher, side by side, and two layers that train in a head's place.

Shapes: F the student's features, D a teacher's width, E that of all teachers together, H a head's hidden channels,
K of all heads together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def beside(first: nn.Linear, widths: Sequence[int]) -> nn.Linear:
    """`first`, and beside its outputs those of fresh layers of so many outputs, as one layer F -> E."""
    fresh = [nn.Linear(first.in_features, width) for width in widths]
    return joined([first, *fresh])


@torch.no_grad()
def joined(heads: Sequence[nn.Linear]) -> nn.Linear:
    """One layer that answers what all do, one after another's."""
    one = nn.Linear(heads[0].in_features, sum(head.out_features for head in heads))
    one.weight.copy_(torch.cat([head.weight.to(one.weight) for head in heads]))
    one.bias.copy_(torch.cat([head.bias.to(one.bias) for head in heads]))
    return one


@torch.no_grad()
def apart(last: nn.Linear, widths: Sequence[int]) -> list[nn.Linear]:
    """What `joined` was given."""
    found = []
    parts = (torch.split(layer, list(widths)) for layer in (last.weight, last.bias))
    for weight_DF, bias_D in zip(*parts, strict=True):
        head = nn.Linear(last.in_features, len(bias_D), device=weight_DF.device)
        head.weight.copy_(weight_DF)
        head.bias.copy_(bias_D)
        found.append(head)
    return found


def put_last(backbone: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a layer in another's place."""
    (name,) = [name for name, module in backbone.named_modules() if module is old]
    parent, _, own = name.rpartition(".")
    setattr(backbone.get_submodule(parent), own, new)


class Blocks(nn.Module):
    """A linear layer a head, each of its own share of the hidden channels: (N, K) to (N, E)."""

    def __init__(self, hidden: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(hidden, width) for width in widths)
        self.hidden = hidden

    def forward(self, x_NK: Tensor) -> Tensor:
        parts = torch.split(x_NK, self.hidden, dim=1)
        return torch.cat([head(x_NH) for head, x_NH in zip(self.heads, parts, strict=True)], dim=1)

    @torch.no_grad()
    def as_one(self) -> tuple[Tensor, Tensor]:
        """(weight_EK, bias_E): zero where a head does not look."""
        weights, biases = ([head.get_parameter(name).data for head in self.heads] for name in ("weight", "bias"))
        blocks: Tensor = torch.block_diag(*weights)  # type: ignore[no-untyped-call]
        return blocks, torch.cat(biases)


def expanded(last: nn.Linear, hidden: int, widths: Sequence[int]) -> nn.Sequential:
    """Two linear layers with batch norm between them, of as many inputs and outputs as `last`: F -> `hidden` -> D.

    Of several heads, of so many outputs each, every one has hidden channels of its own.

    While it is trained a product of two matrices takes other steps than one, and the norm gives each direction of the
    student's features the same say whatever its spread; what it can say is the same, and it is shipped as one layer.
    Sources: a linear projector with batch norm in distillation of features, Miles and Mikolajczyk ("Understanding the
    role of the projector in knowledge distillation", AAAI 2024); wider linear layers folded after training, Guo et al.
    ("ExpandNets", NeurIPS 2020).
    """
    wide = hidden * len(widths)
    into, norm = nn.Linear(last.in_features, wide, bias=False), nn.BatchNorm1d(wide)
    return nn.Sequential(into, norm, nn.Linear(hidden, widths[0]) if len(widths) == 1 else Blocks(hidden, widths))


@torch.no_grad()
def folded(head: nn.Sequential) -> nn.Linear:
    """The one layer that answers what `expanded`'s three answer in evaluation mode, in float64 and then rounded."""
    into, norm, out = head
    assert isinstance(into, nn.Linear) and isinstance(norm, nn.BatchNorm1d) and isinstance(out, nn.Linear | Blocks)
    assert norm.running_var is not None and norm.running_mean is not None
    gain_K = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift_K = norm.bias.double() - gain_K * norm.running_mean.double()
    weight_EK, bias_E = out.as_one() if isinstance(out, Blocks) else (out.weight, out.bias)
    one = nn.Linear(into.in_features, len(bias_E), device=bias_E.device)
    one.weight.copy_((weight_EK.double() * gain_K) @ into.weight.double())
    one.bias.copy_(bias_E.double() + weight_EK.double() @ shift_K)
    return one
