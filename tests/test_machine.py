from __future__ import annotations

import pytest

from m3e.machine import bf16_kind, machine


@pytest.mark.parametrize(
    ("flags", "limit", "kind"),
    [
        ("sse avx2", "", "none"),
        ("avx512f avx512_bf16", "", "avx512_bf16"),
        ("avx512_bf16 amx_bf16 amx_tile", "", "amx"),
        ("avx512_bf16 amx_bf16", "AVX512_CORE_BF16", "avx512_bf16"),
        ("avx512_bf16 amx_bf16", "AVX512_CORE", "none"),
        ("avx512_bf16 amx_bf16", "AVX2", "none"),
        ("avx512_bf16 amx_bf16", "DEFAULT", "amx"),
        ("avx512_bf16 amx_bf16", "AVX512_CORE_AMX", "amx"),
    ],
)
def test_bf16_by_flags_and_limit(flags: str, limit: str, kind: str) -> None:
    assert bf16_kind(flags, {"ONEDNN_MAX_CPU_ISA": limit} if limit else {}) == kind


def test_this_machine() -> None:
    facts = machine().as_dict()
    assert facts["cpu"]
    assert facts["threads"] >= 1
    assert facts["bf16"] in ("amx", "avx512_bf16", "none")
