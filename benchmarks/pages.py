"""Writes docs/benchmarks.md and docs/基准.md from the files in benchmarks/results: no figure in them is typed.

python benchmarks/pages.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

NAMES = {
    "data": ("Near-duplicates of 100,000 rows", "10 万行去近似重复"),
    "search": ("Exact search: 300,000 × 768, 2,000 queries, top 100", "精确检索：30 万 × 768，2,000 个查询，前 100"),
    "t2ranking_shape": ("Search and metrics in T2Ranking's shape: peak memory", "T2Ranking 规模的检索与指标：内存峰值"),
    "encode": ("Encoding, the slowest of four models", "编码，四个模型中最慢的一个"),
    "serve": ("Serving e5-small, requests a second", "部署 e5-small，每秒请求数"),
    "train": ("Training, the slower of two models", "训练，两个模型中较慢的一个"),
}
STOP = (".", "。")
WORDS = {
    "title": ("Benchmarks", "基准"),
    "about": (
        "Peers side by side in one run, medians of runs that alternate; above 1 m3e is better. Written by "
        "`python benchmarks/pages.py` from [benchmarks/results](../benchmarks/results); the scripts are in "
        "[benchmarks](../benchmarks).",
        "同一次运行里与同类工具并排比较，交替运行取中位数；大于 1 表示 m3e 更好。由 `python benchmarks/pages.py` 根据 "
        "[benchmarks/results](../benchmarks/results) 写成；脚本在 [benchmarks](../benchmarks)。",
    ),
    "peer": ("beside", "对比对象"),
    "ratio": ("ratio", "倍数"),
    "shape": ("shape and tokens a text", "模型规格与每条文本的词元数"),
    "rows": ("rows a batch", "每批行数"),
    "mfu": ("share of the GPU's peak (MFU)", "占 GPU 峰值的比例（MFU）"),
    "gpu": (
        "Beside sentence-transformers' gradient caching in bf16 at its best setting, on",
        "对比 sentence-transformers 的梯度缓存（bf16，取其最好的设置），测于",
    ),
    "machine": ("Measured on", "测于"),
    "threads": ("threads, bf16", "线程，bf16"),
}


def page(language: int) -> str:
    """The page in English (0) or Chinese (1)."""
    lines = [f"# {WORDS['title'][language]}", "", WORDS["about"][language]]
    for name, titles in NAMES.items():
        path = RESULTS / f"{name}.json"
        if not path.is_file():
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        lines += ["", f"## {titles[language]}", ""]
        lines += [f"| {WORDS['peer'][language]} | {WORDS['ratio'][language]} |", "|---|---:|"]
        lines += [f"| `{peer}` | {float(ratio):.2f} |" for peer, ratio in result["ratios"].items()]
        lines += ["", _machine(result["machine"], language)]
        lines += _on_gpu(result.get("gpu", {}), language)
    return "\n".join(lines) + "\n"


def _on_gpu(found: dict[str, Any], language: int) -> list[str]:
    """A table of the part of a benchmark that ran on a GPU; none where it did not."""
    if not found.get("ran"):
        return []
    words = [WORDS[key][language] for key in ("shape", "rows", "ratio", "mfu")]
    lines = ["", f"| {' | '.join(words)} |", "|---|---:|---:|---:|"]
    for shape, of in found["shapes"].items():
        (ratio,) = of["ratios"].values()
        lines.append(f"| `{shape}` | {of['rows']:,} | {ratio:.2f} | {of['ours']['mfu']:.0%} |")
    return [*lines, "", f"{WORDS['gpu'][language]} {found['device']}{STOP[language]}"]


def _machine(machine: dict[str, Any], language: int) -> str:
    return (
        f"{WORDS['machine'][language]} {machine['cpu']}, {machine['threads']} {WORDS['threads'][language]} "
        f"{machine['bf16']}{STOP[language]}"
    )


PAGES = {ROOT / "docs" / "benchmarks.md": 0, ROOT / "docs" / "基准.md": 1}


def main() -> None:
    for path, language in PAGES.items():
        path.write_text(page(language), encoding="utf-8")


if __name__ == "__main__":
    main()
