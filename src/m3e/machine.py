"""What the processor can do: its name, threads, and whether bf16 is fast on it.

bf16 is several times faster than fp32 where the processor multiplies it in hardware
(AMX, AVX512-BF16) and a hundred times slower where it does not, so the flags are read
and then a short measurement decides. ``ONEDNN_MAX_CPU_ISA`` imitates lesser processors.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Bf16 = Literal["amx", "avx512_bf16", "none"]

_ISA_WITHOUT_AMX = ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512")


@dataclass(frozen=True)
class Machine:
    """The processor's name, its bf16 instructions, and the threads a program may use."""

    cpu: str
    bf16: Bf16
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """A JSON object with ``cpu``, ``bf16`` and ``threads``."""
        return asdict(self)


@cache
def machine() -> Machine:
    """This machine, read once."""
    info = _cpu_info()
    name = info.get("model name") or platform.processor() or platform.machine()
    return Machine(cpu=name, bf16=bf16_kind(info.get("flags", ""), os.environ), threads=_threads())


def bf16_kind(flags: str, environment: Any) -> Bf16:
    """The bf16 instructions among the processor's ``flags``, less what ``ONEDNN_MAX_CPU_ISA`` forbids."""
    present = set(flags.split())
    limit = environment.get("ONEDNN_MAX_CPU_ISA", "").upper()
    below_bf16 = bool(limit) and limit not in ("ALL", "DEFAULT") and not _isa_has_bf16(limit)
    if below_bf16:
        return "none"
    if "amx_bf16" in present and limit not in _ISA_WITHOUT_AMX:
        return "amx"
    return "avx512_bf16" if "avx512_bf16" in present else "none"


def _isa_has_bf16(limit: str) -> bool:
    return limit in _ISA_WITHOUT_AMX or "AMX" in limit


@cache
def bf16_is_fast() -> bool:
    """Whether a bf16 matrix product beats fp32 here by a clear margin: flags first, then a short measurement."""
    if machine().bf16 == "none":
        return False
    import torch

    factors = {
        dtype: (torch.ones(256, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype))
        for dtype in (torch.bfloat16, torch.float32)
    }
    best = dict.fromkeys(factors, float("inf"))
    for _ in range(15):
        for dtype, (left, right) in factors.items():  # by turns, so that what else runs here slows both
            start = time.perf_counter()
            torch.mm(left, right)
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.bfloat16] * 1.2 < best[torch.float32]


def _threads() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _cpu_info() -> dict[str, str]:
    """The first processor's entries of ``/proc/cpuinfo``; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    entries: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        entries[key.strip()] = value.strip()
    return entries
