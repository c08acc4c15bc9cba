"""A network made without drawing its first weights, of which every one is about to be read from a file.

To draw them takes longer than to read them: of a ViT-L/16's 300 million, trunc_normal_ alone takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWN = {Tensor.normal_, Tensor.uniform_, Tensor.erfinv_} | {
    *(nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_, nn.init.orthogonal_),
    *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.xavier_normal_, nn.init.xavier_uniform_),
}
"""What fills a tensor at random, in place. What is computed (frequencies, indices of positions) is in no file."""


class unfilled(TorchFunctionMode):  # noqa: N801 a context, as torch.no_grad is
    """Within it a new tensor that would be filled at random is left as memory happens to be."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWN:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
