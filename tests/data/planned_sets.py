"""Small sets for the pipeline, as rows in memory, and what comes out of a prepared folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m3e.data.pipeline import SetPlan
from m3e.data.prepare import Prepared


def row(query: str, *positives: str, negatives: Sequence[str] = (), **values: Any) -> dict[str, Any]:
    """A staged row."""
    return {"query": query, "positives": list(positives), "negatives": list(negatives), **values}


def planned(name: str, rows: Sequence[dict[str, Any]], kind: str = "pair", inputs: Any = 0, **facts: Any) -> SetPlan:
    """A plan over rows in memory; its ``read.calls`` counts how often they were read."""

    def read(account: Any) -> Any:
        read.calls += 1  # type: ignore[attr-defined]
        for values in rows:
            yield kind, values

    read.calls = 0  # type: ignore[attr-defined]
    return SetPlan(name, read, inputs, **facts)


def written(prepared: Prepared, name: str) -> list[dict[str, Any]]:
    """The rows of a set's shards, without the name of the set."""
    entry = entry_of(prepared, name)
    rows = [row for shard in entry["shards"] for row in pq.read_table(prepared.folder / shard["file"]).to_pylist()]
    assert all(row.pop("dataset") == name for row in rows)
    return rows


def texts(prepared: Prepared, name: str) -> set[str]:
    """The first text of each row that stayed."""
    rows = written(prepared, name)
    first = [next(iter(row.values())) for row in rows]
    assert len(set(first)) == len(first)
    return set(first)


def entry_of(prepared: Prepared, name: str) -> dict[str, Any]:
    """What the manifest says of a set."""
    return next(entry for entry in prepared.manifest["datasets"] if entry["dataset"] == name)


def sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


HEADER = "name,kind,s2,language,domain,rows_per_split,commercial,licence_as_stated,commercial_in_words,source\n"
LISTED = """\
faq,pair (question -> answer),s2p,zh,shops,train 4 dev 1,yes,MIT,licence permits,a/b @ 1
riddles,pair (riddle -> answer),s2s,zh,riddles,train 3,no,research only,no,c/d @ 2
lessons,pair (question -> answer),s2p,en,school,train 3,unknown,,not stated,e/f @ 3
held,pair (question -> answer),s2p,zh,exams,test 1,yes,MIT,permits,g/h @ 4
"""
LISTED_ROWS = {
    "faq.train": [
        ("怎么退货", "到前台填写退货单"),
        ("怎么换货", "到前台填写换货单"),
        ("番茄叶子发黄怎么办", "少浇一点水"),
        ("几点关门", "晚上九点关门"),
    ],
    "faq.dev": [("番茄叶子发黄怎么办", "换一个花盆")],
    "riddles.train": [("什么东西越洗越脏", "是水呀"), ("怎么退货", "到前台填写退货单"), ("什么桥不能走", "鹊桥")],
    "lessons.train": [("What is the sun?", "A star."), ("What is the moon?", "A rock."), ("Who are you?", "Me.")],
    "held.test": [("几点关门呢", "从来没有写过的一句")],
}


def listed_folder(folder: Path) -> Path:
    """A folder with a ``catalogue.csv`` and its files, as ``M3E_DATA`` names one."""
    folder.mkdir(parents=True)
    (folder / "catalogue.csv").write_text(HEADER + LISTED, encoding="utf-8")
    for name, rows in LISTED_ROWS.items():
        columns = {"text": [text for text, _ in rows], "text_pos": [positive for _, positive in rows]}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder
