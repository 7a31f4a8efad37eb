"""An adapter's file of weights: peft's own names and configuration, or ours in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.models.difference import Difference, pack_int8, unpack_int8

if TYPE_CHECKING:
    from torch import Tensor

PEFT_FILE = "adapter_model.safetensors"
INT8_FILE = "adapter_int8.safetensors"

_PREFIX = "base_model.model."  # what peft puts before every name
_ROWS_NAME = "token_adapter.trainable_tokens_delta"


def write_int8(found: Difference, folder: Path) -> None:
    """Write what :func:`read_weights` reads, in 8 bits a number."""
    _save(pack_int8(found), folder / INT8_FILE)


def write_peft(found: Difference, encoder: Any, base: str, revision: str | None, folder: Path) -> None:
    """Write what ``PeftModel.from_pretrained`` and :func:`read_weights` read.

    peft itself wants at least one linear layer that differs.
    """
    from peft import LoraConfig

    tensors: dict[str, Tensor] = {}
    for name, (down, up) in found.factors.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = down
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = up
    for name, (_, values) in found.rows.items():
        tensors[f"{_PREFIX}{name}.{_ROWS_NAME}"] = values
    norms: list[str] = []
    biases = False
    for name, values in found.whole.items():
        module_name, _, own_name = name.rpartition(".")
        is_linear_bias = _is_linear(encoder.get_submodule(module_name))
        biases |= is_linear_bias
        norms += [] if is_linear_bias or module_name in norms else [module_name]
        inside = ".base_layer" if is_linear_bias and module_name in found.factors else ""
        tensors[f"{_PREFIX}{module_name}{inside}.{own_name}"] = values
    config = LoraConfig(
        r=max(found.rank, 1),
        lora_alpha=max(found.rank, 1),  # their quotient scales the factors
        rank_pattern={name: len(down) for name, (down, _) in found.factors.items() if len(down) != found.rank},
        alpha_pattern={name: len(down) for name, (down, _) in found.factors.items() if len(down) != found.rank},
        target_modules=list(found.factors),
        trainable_token_indices={name: places.tolist() for name, (places, _) in found.rows.items()} or None,
        modules_to_save=norms or None,
        bias="all" if biases else "none",
        base_model_name_or_path=base,
        revision=revision,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    _save(tensors, folder / PEFT_FILE)


def read_weights(folder: Path) -> Difference:
    """The difference that a folder holds."""
    from safetensors.torch import load_file

    if (folder / INT8_FILE).is_file():
        return unpack_int8(load_file(folder / INT8_FILE))
    return _read_peft(folder)


def _read_peft(folder: Path) -> Difference:
    import torch
    from peft import LoraConfig
    from safetensors.torch import load_file

    places = LoraConfig.from_pretrained(str(folder)).trainable_token_indices or {}
    found = Difference()
    tensors = {name.removeprefix(_PREFIX): values for name, values in load_file(folder / PEFT_FILE).items()}
    for name, values in tensors.items():
        if name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            found.factors[module] = values, tensors[f"{module}.lora_B.weight"]
        elif name.endswith(f".{_ROWS_NAME}"):
            module = name.removesuffix(f".{_ROWS_NAME}")
            found.rows[module] = torch.tensor(places[module]), values
        elif not name.endswith(".lora_B.weight"):
            found.whole[name.replace(".base_layer.", ".")] = values
    return found


def _is_linear(module: Any) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: values.contiguous() for name, values in tensors.items()}, path)
