"""Products with weights that oneDNN has laid out for this processor once, an activation in the same pass.

torch's own ``linear`` lays weights out anew in every call, and asks MKL for fp32, which leaves half of an AMD
processor's width unused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_FUSED = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
_ROWS = 512
"""Rows of the product that the layout is made for; any number works."""


class Linear:
    """``x @ weight.T + bias``, then an activation by its name in transformers.

    Args:
        weight: of shape (out, in).
        dtype: of the product, of ``x`` and of the result.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype, activation: str | None = None
    ) -> None:
        self._weight = weight.detach().to(dtype).contiguous()
        self._bias = bias.detach().to(dtype).contiguous()
        self._prepacked = can_prepack(dtype)
        self._fused: tuple[str, str] = ("none", "")
        self._after: Any = None
        if activation is not None:
            if self._prepacked and activation in _FUSED:
                self._fused = _FUSED[activation]
            else:
                from transformers.activations import ACT2FN

                self._after = ACT2FN[activation]
        if self._prepacked:
            import torch

            self._product = torch.ops.mkldnn._linear_pointwise.default
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, _ROWS)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The product, of shape (rows, out)."""
        if self._prepacked:
            name, algorithm = self._fused
            y: torch.Tensor = self._product(x, self._weight, self._bias, name, [], algorithm)
        else:
            import torch

            y = torch.nn.functional.linear(x, self._weight, self._bias)
        return y if self._after is None else self._after(y)


def can_prepack(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN with the two operators, and this processor ``dtype`` in it."""
    import torch

    onednn: Any = torch.backends.mkldnn
    operators = torch.ops.mkldnn
    if not (onednn.is_available() and all(hasattr(operators, name) for name in _OPERATORS)):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
