"""Embeddings of all processes, so that every row's negatives are those of the whole batch.

Each process computes the loss of the joined batch and back-propagates to its own rows: whatever the loss, the sum of
all processes' gradients is the gradient of one process on the joined batch.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

_NUMBERS_A_MESSAGE = 32 << 20
_PATIENCE = timedelta(days=14)
"""The others wait while the first prepares data or encodes with a teacher; who starts them ends them if it fails."""

_FAILURES = "m3e/failures"


@contextlib.contextmanager
def joined_processes(device: str | None = None) -> Iterator[None]:
    """While it lasts, the processes that ``torchrun`` or ``accelerate launch`` started are one group.

    A single process stays as it is.

    Args:
        device: ``cpu`` where graphics cards are there and not wanted.
    """
    if started_processes() == 1 or processes() > 1:
        yield
        return
    on_gpu = torch.cuda.is_available() and not (device or "").startswith("cpu")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    yield
    disband()  # not after an error: the others may wait for this one, and would be waited for here


def disband() -> None:
    """End the group of processes."""
    gc.collect()  # what holds the group in a cycle would keep its threads running into the interpreter's end: it aborts
    torch.distributed.destroy_process_group()


def started_processes() -> int:
    """How many processes were started to train together, whether they have joined yet or not."""
    return int(os.environ["WORLD_SIZE"]) if os.environ.get("WORLD_SIZE", "").isdigit() else 1


def fails_first() -> bool:
    """Whether no other process has failed before this one, which is then the one to say what is wrong.

    What stops one process stops the others: they see the same fault, or lose their partner. Before they have joined,
    all see the same.
    """
    if processes() == 1:
        return started_processes() == 1 or os.environ.get("RANK", "0") == "0"
    from torch.distributed.distributed_c10d import _get_default_store

    try:
        return int(_get_default_store().add(_FAILURES, 1)) == 1
    except RuntimeError:  # it ended with the process that kept it
        return False


def processes() -> int:
    """How many processes train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first_process() -> bool:
    """Whether this process is the one that writes: the only one, or rank 0."""
    return processes() == 1 or torch.distributed.get_rank() == 0


def wait_for_all() -> None:
    """Go on when all processes have come so far."""
    if processes() > 1:
        torch.distributed.barrier()


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """The block runs in the first process, then in the others, which find what it wrote."""
    if not is_first_process():
        wait_for_all()
    yield
    if is_first_process():
        wait_for_all()


def from_first_process(make: Callable[[], T]) -> T:
    """What ``make`` returns in the first process, in all of them; only that one calls it."""
    if processes() == 1:
        return make()
    found: list[Any] = [make() if is_first_process() else None]
    torch.distributed.broadcast_object_list(found)
    made: T = found[0]
    return made


def mean_of_all(value: Tensor) -> Tensor:
    """The mean of a number over all processes, to the last bit the same in each."""
    if processes() == 1:
        return value.detach()
    mean = value.detach().clone()
    torch.distributed.all_reduce(mean)
    return mean / processes()


def parts_of_all(values: Tensor) -> list[Tensor]:
    """The rows of each process, in order of rank, without gradients."""
    values = values.detach().contiguous()
    if processes() == 1:
        return [values]
    parts = [torch.empty_like(values) for _ in range(processes())]
    torch.distributed.all_gather(parts, values)
    return parts


def joined(parts: list[Tensor], own: Tensor) -> Tensor:
    """The rows of all processes; gradients flow to ``own``, which takes the place of this process's part."""
    if len(parts) == 1:
        return own
    rank = torch.distributed.get_rank()
    return torch.cat([*parts[:rank], own, *parts[rank + 1 :]])


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place, a few large messages at a time.

    A parameter that no process used stays without a gradient, as in one process.
    """
    if processes() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    used = torch.tensor([parameter.grad is not None for parameter in trained], device=trained[0].device).int()
    torch.distributed.all_reduce(used, torch.distributed.ReduceOp.MAX)
    bucket: list[Tensor] = []
    size = 0
    for parameter, is_used in zip(trained, used.tolist(), strict=True):
        if not is_used:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        size += parameter.grad.numel()
        if size > _NUMBERS_A_MESSAGE:
            _sum(bucket)
            bucket, size = [], 0
    _sum(bucket)


def _sum(tensors: list[Tensor]) -> None:
    if not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(flat)
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
