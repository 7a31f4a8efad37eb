"""The real files that ``M3E_DATA`` names: every row is a record or is counted as dropped."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from m3e.data.reading import read_records
from m3e.records import Kind

FOLDER = Path(os.environ.get("M3E_DATA", ""))

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(
        not os.environ.get("M3E_DATA") or not FOLDER.is_dir(), reason="M3E_DATA names no folder of real data"
    ),
]

KINDS = {
    "chip_sts.dev": Kind.SCORED_PAIR,
    "stsb_zh.dev": Kind.SCORED_PAIR,
    "c3_pair.dev": Kind.PAIR,
    "dureader_demo.dev": Kind.PAIR,
    "afqmc_unlabelled.test": Kind.PAIR,
    "dbqa_triplet.dev": Kind.TRIPLET,
}


@pytest.mark.parametrize("name", KINDS)
def test_no_row_is_lost_in_silence(name):
    path = FOLDER / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    found = read_records(path)
    assert found.kind is KINDS[name]
    assert found.rows + sum(found.dropped.values()) == pq.read_metadata(path).num_rows
    assert found.rows > 0
