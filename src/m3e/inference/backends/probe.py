"""A short race on this machine: the same texts by each backend, the vectors compared, the winner remembered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import M3EError
from m3e.files import cache_folder, hash_settings, read_json, write_json
from m3e.inference.backends import Backend, Vectors
from m3e.inference.tokens import Tokeniser
from m3e.machine import machine

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SAME_IN_BF16 = 0.999
_SAME_IN_FP32 = 0.9999
_MARGIN = 1.1
"""A graph has to be this much faster: it takes seconds to make at every start, and measurements vary."""

_RUNS = 3
_WEIGHTS_WORTH_A_GRAPH = 2_000_000
_PACKAGES = ("m3e", "torch", "transformers", "openvino", "onnxruntime")

_SENTENCES = (
    "今天天气很好，我们去公园散步。",
    "How do I reset my password?",
    "退货款几天能到账",
    "订单已经发货，可是物流信息三天没有更新，请帮我查一下。",
    "The quick brown fox jumps over the lazy dog while it rains in Shanghai.",
    "def add(a, b): return a + b",
    "红烧肉要先焯水，再用小火炖四十分钟，最后大火收汁，这样肥而不腻，颜色也好看。",
    "猫",
)


@dataclass(frozen=True)
class Found:
    """The winner, and in words why."""

    backend: Backend
    how: str


class Probe:
    """Texts of mixed lengths in both languages, tokenised for one model."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        tokenise = Tokeniser(model)
        few = tokenise(_SENTENCES)
        many = tokenise([sentence * repeat for repeat in (1, 1, 2, 4) for sentence in _SENTENCES])
        self._few = few.take(np.argsort([-length for length in few.lengths]).tolist()).ids
        self._many = many.take(np.argsort([-length for length in many.lengths]).tolist()).ids
        self._exact: Vectors | None = None

    @property
    def is_worth_it(self) -> bool:
        """Whether the model is large enough for a graph to win back the time that its making takes."""
        import torch

        tables = (module for module in self._model.modules() if isinstance(module, torch.nn.Embedding))
        looked_up = sum(table.weight.numel() for table in tables)
        multiplied = sum(weight.numel() for weight in self._model.parameters()) - looked_up
        return bool(multiplied > _WEIGHTS_WORTH_A_GRAPH)

    def cosine(self, backend: Backend) -> float:
        """The lowest cosine between its vectors and the model's own in fp32."""
        from m3e.inference.backends.modules import ModulesBackend

        if self._exact is None:
            self._exact = ModulesBackend(self._model, "fp32")(self._few)
        found = backend(self._few)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(self._exact, axis=1)
        return float(((found * self._exact).sum(axis=1) / np.maximum(lengths, 1e-12)).min())

    def race(self, first: Backend, names: Sequence[str], make: Callable[[str], Backend]) -> Found:
        """The fastest of ``first`` and those of ``names``; remembered for this machine and the model's shape."""
        record = cache_folder() / "probes" / f"{self._key(first.dtype, names)}.json"
        try:
            known = read_json(record)
            winner, how = str(known["winner"]), f"{known['how']}, measured before"
        except (OSError, ValueError, KeyError, TypeError):
            return self._measure(first, names, make, record)
        return Found(first if winner == first.name else make(winner), how)

    def _measure(self, first: Backend, names: Sequence[str], make: Callable[[str], Backend], record: Any) -> Found:
        rivals: dict[str, Backend] = {first.name: first}
        notes = []
        for name in names:
            try:
                rival = make(name)
            except M3EError:
                notes.append(f"{name} cannot run it")
                continue
            lowest = SAME_IN_BF16 if rival.dtype == "bf16" else _SAME_IN_FP32
            if rival.dtype != first.dtype or self.cosine(rival) < lowest:
                notes.append(f"{name} gives other vectors")
            else:
                rivals[name] = rival
        rates = self._rates(rivals)
        best = max(rates, key=lambda name: rates[name])
        winner = best if rates[best] > _MARGIN * rates[first.name] else first.name
        measured = ", ".join(f"{name} {rate:.0f} texts/s" for name, rate in rates.items())
        how = "; ".join([f"the fastest of {measured}", *notes])
        write_json(record, {"winner": winner, "how": how})
        return Found(rivals[winner], how)

    def _rates(self, rivals: dict[str, Backend]) -> dict[str, float]:
        """Texts a second, the best of runs that alternate."""
        best = dict.fromkeys(rivals, float("inf"))
        for run in range(_RUNS + 1):
            for name, rival in rivals.items():
                start = time.perf_counter()
                for first in range(0, len(self._many), 8):
                    rival(self._many[first : first + 8])
                if run:  # the first only warms up
                    best[name] = min(best[name], time.perf_counter() - start)
        return {name: len(self._many) / seconds for name, seconds in best.items()}

    def _key(self, dtype: str, names: Sequence[str]) -> str:
        import torch

        shapes = [[name, *weight.shape] for name, weight in self._model.state_dict().items()]
        return hash_settings(
            {
                "machine": [machine().as_dict(), os.environ.get("ONEDNN_MAX_CPU_ISA")],
                "threads": torch.get_num_threads(),
                "versions": {package: _version(package) for package in _PACKAGES},
                "model": [[type(module).__name__ for module in self._model], shapes],
                "dtype": dtype,
                "backends": list(names),
            }
        )[:32]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
