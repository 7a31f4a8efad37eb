"""The difference between two encoders of one shape: low-rank where weights are matrices, whole where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from m3e.errors import ModelError
from m3e.models.int8_rows import from_int8, to_int8

if TYPE_CHECKING:
    from torch import Tensor, nn

NEGLIGIBLE = 1e-3
"""The share of a difference that is left out before more ranks are taken: about what 16 bits round."""


@dataclass(frozen=True)
class Difference:
    """What is added to a base.

    Attributes:
        factors: of each linear layer by name, ``down`` of shape (rank, inputs) and ``up`` of shape (outputs, rank);
            ``up @ down`` is added to its weight.
        rows: of each embedding by name, which rows are replaced and by what.
        whole: parameters by name that are replaced.
    """

    factors: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    rows: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    whole: dict[str, Tensor] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """The largest of all layers; 0 where no linear layer differs."""
        return max((len(down) for down, _ in self.factors.values()), default=0)


def difference(tuned: nn.Module, base: nn.Module, rank: int) -> Difference:
    """``tuned`` minus ``base``, by singular values (Eckart and Young, 1936).

    A layer gets as many ranks as leave out a thousandth of its difference, at most ``rank``: what was trained as
    low-rank adapters comes back in their rank, also after an average with the base.

    Raises:
        ModelError: the two are not of one shape; names the weight.
    """
    check_same_shape(dict(tuned.named_parameters()), dict(base.named_parameters()))
    found = Difference()
    for name, new, old in _changed(tuned, base):
        module_name, _, own_name = name.rpartition(".")
        module = tuned.get_submodule(module_name)
        if own_name == "weight" and _is_linear(module):
            found.factors[module_name] = _factors(new - old, rank)
        elif own_name == "weight" and _is_embedding(module):
            places = (new != old).any(dim=1).nonzero()[:, 0]
            found.rows[module_name] = places, new[places]
        elif _is_linear(module):
            found.whole[name] = new
        else:  # a layer norm: all of it or nothing, as peft has it
            own = module.named_parameters(prefix=module_name, recurse=False)
            found.whole.update((part, values.detach().float().cpu()) for part, values in own)
    return found


def add(found: Difference, base: nn.Module) -> None:
    """Turn ``base`` into the tuned encoder, in place.

    Raises:
        ModelError: the base lacks a weight, or it has another shape.
    """
    import torch

    parameters = dict(base.named_parameters())

    def parameter(name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in parameters or tuple(parameters[name].shape) != shape:
            here = tuple(parameters[name].shape) if name in parameters else "missing"
            raise ModelError(f"the adapter changes {name} of shape {shape}, which in this base is {here}")
        return parameters[name]

    with torch.no_grad():
        for name, (down, up) in found.factors.items():
            weight = parameter(f"{name}.weight", (len(up), down.shape[1]))
            weight.add_((up.float() @ down.float()).to(weight))
        for name, (places, values) in found.rows.items():
            count = len(parameters.get(f"{name}.weight", places))
            weight = parameter(f"{name}.weight", (count, values.shape[1]))
            weight.index_copy_(0, places.to(weight.device), values.to(weight))
        for name, values in found.whole.items():
            parameter(name, tuple(values.shape)).copy_(values)


def relative_error(tuned: nn.Module, base: nn.Module, found: Difference) -> float:
    """What ``found`` misses of the difference between two encoders, as a share of it (Frobenius norms)."""
    import torch

    missed = total = 0.0
    for name, new, old in _changed(tuned, base):
        module_name, _, own_name = name.rpartition(".")
        delta = new - old
        total += float(delta.square().sum(dtype=torch.float64))
        if own_name == "weight" and module_name in found.factors:
            down, up = found.factors[module_name]
            delta = delta - up.float() @ down.float()
        elif own_name == "weight" and module_name in found.rows:
            places, values = found.rows[module_name]
            delta = delta.index_copy(0, places, new[places] - values.float())
        elif name in found.whole:
            delta = new - found.whole[name].float()
        missed += float(delta.square().sum(dtype=torch.float64))
    return float(np.sqrt(missed / total)) if total else 0.0


def check_same_shape(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Refuse two models' weights that differ in names or shapes.

    Raises:
        ModelError: names the first weight that differs.
    """
    for name in [*first, *(name for name in second if name not in first)]:
        if name not in first or name not in second:
            raise ModelError(f"the two models are not of one shape: only one of them has {name}")
        shapes = tuple(first[name].shape), tuple(second[name].shape)
        if shapes[0] != shapes[1]:
            raise ModelError(f"the two models are not of one shape: {name} is {shapes[0]} in one, {shapes[1]} in other")


def as_fp16(found: Difference) -> Difference:
    """Factors and rows in 16 bits; what is replaced whole is little, and stays as it is."""
    return Difference(
        {name: (down.half(), up.half()) for name, (down, up) in found.factors.items()},
        {name: (places, values.half()) for name, (places, values) in found.rows.items()},
        found.whole,
    )


def pack_int8(found: Difference) -> dict[str, Tensor]:
    """Named tensors with factors and rows in 8 bits, and a scale for each rank and row."""
    import torch

    tensors: dict[str, Tensor] = dict(found.whole)

    def put(name: str, values: Tensor) -> None:
        numbers, scales = to_int8(values.float().numpy())
        tensors[name], tensors[f"{name}_scale"] = torch.from_numpy(numbers), torch.from_numpy(scales)

    for name, (down, up) in found.factors.items():
        put(f"{name}:down", down)
        put(f"{name}:up", up.T)  # a rank's column has its own size, a layer's row has not
    for name, (places, values) in found.rows.items():
        tensors[f"{name}:places"] = places
        put(f"{name}:rows", values)
    return {name: values.contiguous() for name, values in tensors.items()}


def unpack_int8(tensors: Mapping[str, Tensor]) -> Difference:
    """The inverse of :func:`pack_int8`, up to rounding."""
    import torch

    def get(name: str) -> Tensor:
        return torch.from_numpy(from_int8(tensors[name].numpy(), tensors[f"{name}_scale"].numpy()))

    found = Difference()
    for key in tensors:
        name, _, part = key.rpartition(":")
        if part == "down" and name:
            found.factors[name] = get(key), get(f"{name}:up").T
        elif part == "places" and name:
            found.rows[name] = tensors[key], get(f"{name}:rows")
        elif not name:
            found.whole[key] = tensors[key]
    return found


def _changed(tuned: nn.Module, base: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Parameters that differ: the name, the tuned and the base's values on the CPU in fp32."""
    others = dict(base.named_parameters())
    for name, parameter in tuned.named_parameters():
        new, old = (each.detach().float().cpu() for each in (parameter, others[name]))
        if not new.equal(old):
            yield name, new, old


def _factors(delta: Tensor, most: int) -> tuple[Tensor, Tensor]:
    import torch

    left, values, right = torch.linalg.svd(delta, full_matrices=False)
    energy = values.double().square().cumsum(0)
    missed = ((energy[-1] - energy).clamp(min=0) / energy[-1]).sqrt()
    rank = min(most, int((missed > NEGLIGIBLE).sum()) + 1)
    root = values[:rank].sqrt()
    return (root[:, None] * right[:rank]).contiguous(), (left[:, :rank] * root).contiguous()


def _is_linear(module: nn.Module) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear)


def _is_embedding(module: nn.Module) -> bool:
    from torch import nn

    return isinstance(module, nn.Embedding)
