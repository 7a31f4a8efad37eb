"""Small sets written for these tests, of characters that the miniature model knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

WEATHER = ["今天天气很好", "今天天气不好", "阳台天气很好", "天气好我们去公园", "今天公园天气不好"]
ORDERS = ["怎么退货款", "订单地址怎么修改", "快递到哪了", "发票怎么修改", "会员积分怎么退"]
GARDEN = ["番茄叶黄了怎么办", "阳台的花开了", "树叶不黄", "猫在树叶", "狗不去阳台"]
GROUPS = (("天气", WEATHER), ("订单", ORDERS), ("花园", GARDEN))

SENTENCES1 = WEATHER + ORDERS + GARDEN
SENTENCES2 = [SENTENCES1[(index + shift) % 15] for index, shift in enumerate([0, 1, 2, 5, 7] * 3)]
LIKENESS = [5.0, 3.5, 3.0, 0.5, 0.0] * 3
"""Of the two sentences at the same place, 0 to 5."""

TRAIN = [(text, label) for label, texts in GROUPS for text in texts[:3]]
TEST = [(text, label) for label, texts in GROUPS for text in texts[2:]]

CORPUS = {f"d{index}": text for index, text in enumerate(SENTENCES1)}
QUERIES = {"q1": "今天天气好不好", "q2": "怎么修改地址", "q3": "番茄的叶黄了", "q4": "会员积分在哪"}
JUDGEMENTS = [("q1", "d0", 1), ("q2", "d6", 2), ("q2", "d8", 1), ("q3", "d10", 1), ("q4", "d9", 1), ("q4", "d0", 0)]


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def write_pairs(path: Path, labels: list[Any] | None = None) -> Path:
    return write(path, sentence1=SENTENCES1, sentence2=SENTENCES2, label=LIKENESS if labels is None else labels)


def write_texts(path: Path, rows: list[tuple[str, str]]) -> Path:
    return write(path, text=[text for text, _ in rows], label=[label for _, label in rows])


def write_collection(
    folder: Path,
    stem: str,
    corpus: dict[str, str] = CORPUS,
    queries: dict[str, str] = QUERIES,
    judgements: list[tuple[str, str, int]] = JUDGEMENTS,
) -> None:
    write(folder / f"{stem}.corpus.parquet", id=list(corpus), text=list(corpus.values()))
    write(folder / f"{stem}.queries.parquet", id=list(queries), text=list(queries.values()))
    columns = zip(("query_id", "doc_id", "score"), zip(*judgements, strict=True), strict=True)
    write(folder / f"{stem}.qrels.parquet", **{name: list(values) for name, values in columns})


class Ranker:
    """An mteb search model that gives each query-document pair a fixed score."""

    def __init__(self, scores: dict[tuple[str, str], float]) -> None:
        from mteb.models import ModelMeta

        self.scores = scores
        self.mteb_model_meta = ModelMeta.create_empty({"name": "test/ranker", "revision": "r1"})

    def index(self, corpus: Any, **_: Any) -> None:
        self.documents = list(corpus["id"])

    def search(self, queries: Any, *, top_k: int, **_: Any) -> dict[str, dict[str, float]]:
        return {query: {item: self.scores[query, item] for item in self.documents} for query in queries["id"]}
