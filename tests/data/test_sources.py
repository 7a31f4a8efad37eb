import dataclasses
import json
from collections import namedtuple

import datasets
import pyarrow as pa
import pytest

from m3e.data.reading import read_records, read_splits
from m3e.errors import DataError
from m3e.records import Kind, Pair, Ranked, ScoredPair, Triplet

ROWS = [{"text": f"第{number}个问题", "text_pos": f"第{number}个答案"} for number in range(3)]
RECORDS = [Pair(row["text"], row["text_pos"]) for row in ROWS]


@dataclasses.dataclass(slots=True)
class PairRecord:
    text: str
    text_pos: str


class Plain:
    def __init__(self, text, text_pos):
        self.text = text
        self.text_pos = text_pos


Named = namedtuple("Named", ["text", "text_pos"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ROWS,
        lambda: tuple(ROWS),
        lambda: (row for row in ROWS),
        lambda: RECORDS,
        lambda: [PairRecord(**row) for row in ROWS],
        lambda: [Plain(**row) for row in ROWS],
        lambda: [Named(**row) for row in ROWS],
        lambda: {key: [row[key] for row in ROWS] for key in ROWS[0]},
        lambda: {"train": ROWS},
        lambda: {"train": RECORDS, "test": []},
        lambda: datasets.Dataset.from_list(ROWS),
        lambda: datasets.Dataset.from_list(ROWS[::-1]).select([2, 1, 0]),
        lambda: datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}),
        lambda: datasets.IterableDataset.from_generator(lambda: iter(ROWS)),
        lambda: pa.Table.from_pylist(ROWS),
    ],
)
def test_every_object_gives_the_same_records(make):
    found = read_records(make())
    assert found.kind is Kind.PAIR
    assert found.records == RECORDS


def test_a_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([*ROWS, {"text": "问", "text_pos": None}])
    found = read_records(frame)
    assert found.records == RECORDS
    assert found.dropped == {"empty_text": 1}


@pytest.mark.parametrize(
    "records",
    [
        [Triplet("甲", "乙", "丙"), Triplet("甲", "乙", ("丙", "丁"))],
        [ScoredPair("甲", "乙", 1.0)],
        [Ranked("甲", ("乙",)), Ranked("甲", ("乙",), ("丙",)), Ranked("甲", ("乙",), ("丙",), (0.5,), (0.25,))],
        [Ranked("甲", ("乙",), ("丙",), None, (0.25,))],
    ],
)
def test_record_objects_come_back_as_they_are(records):
    assert read_records(records).records == records


def test_record_objects_of_two_kinds_are_refused():
    with pytest.raises(DataError, match="mine, row 2 is a triplet, but row 1 is a pair"):
        read_records([Pair("甲", "乙"), Triplet("甲", "乙", "丙")], name="mine")


def test_class_labels_of_entailment_are_not_taken_for_numbers():
    features = datasets.Features(
        {
            "sentence1": datasets.Value("string"),
            "sentence2": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"]),
        }
    )
    rows = [{"sentence1": "甲", "sentence2": "乙", "label": label} for label in range(3)]
    with pytest.raises(DataError, match="labels must be numbers"):
        read_records(datasets.Dataset.from_list(rows, features=features))


def test_plain_class_labels_are_numbers():
    features = datasets.Features(
        {
            "sentence1": datasets.Value("string"),
            "sentence2": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["different", "same"]),
        }
    )
    rows = [{"sentence1": "甲", "sentence2": "乙", "label": label} for label in range(2)]
    assert read_records(datasets.Dataset.from_list(rows, features=features)).label_range == (0.0, 1.0)


@pytest.mark.parametrize("split", ["dev", "validation", "val"])
def test_validation_splits(split):
    train, validation = read_splits({"train": ROWS[:2], split: ROWS[2:], "test": ROWS})
    assert train.records == RECORDS[:2]
    assert validation.records == RECORDS[2:]
    assert train.notes == [f"used the split train; there are also: {split}, test"]


def test_test_is_never_validation():
    assert read_splits({"train": ROWS, "test": ROWS})[1] is None
    assert read_splits(ROWS)[1] is None


def test_a_missing_train_split_names_the_others():
    with pytest.raises(DataError, match="no split 'train'; splits found: dev, test"):
        read_records({"dev": ROWS, "test": ROWS})
    with pytest.raises(DataError, match="no split 'train'; splits found: foo"):
        read_records(datasets.DatasetDict({"foo": datasets.Dataset.from_list(ROWS)}))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "data has no rows"),
        ([{"text": "甲", "text_pos": "乙"}, "丙"], "data, row 2: str where a dict"),
        ([("甲", "乙")], "data, row 1: tuple where a dict"),
        ([Pair], "data, row 1: type where a dict"),
        ([None], "data, row 1: NoneType where a dict"),
        ([{}], "columns found: none"),
        (7, "data of type int cannot be read"),
        (None, "data of type NoneType cannot be read"),
        (b"bytes", "data of type bytes cannot be read"),
        ({}, "no split 'train'; splits found: none"),
    ],
)
def test_objects_that_are_no_data(source, words):
    with pytest.raises(DataError, match=words):
        read_records(source)


def test_an_empty_data_set_is_refused():
    empty = datasets.Dataset.from_dict({"text": [], "text_pos": []})
    with pytest.raises(DataError, match="data has no rows"):
        read_records(empty)


@pytest.mark.parametrize(
    "text",
    ["nope.jsonl", "./nope", "../nope/nope", "/nope/nope", "nope", "a/b/c", "org/nope.csv", "dir/nope", "~/no pe"],
)
def test_a_path_that_is_not_there_is_named(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    with pytest.raises(DataError, match="there is no file or folder") as caught:
        read_records(text)
    assert text in str(caught.value)


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    write_rows(tmp_path / "b" / "c.jsonl", ROWS[1:2])
    write_rows(tmp_path / "z.JSONL", ROWS[2:])
    (tmp_path / "a.csv").write_text("问题,答案\n第0个问题,第0个答案\n", encoding="gb18030")
    for ignored in (".hidden.jsonl", "README.json", "dataset_infos.json", "manifest.json", ".git/x.jsonl", "_x.json"):
        write_rows(tmp_path / ignored, [{"broken": 1}])
    (tmp_path / "notes.txt").write_text("not data")
    found = read_records(tmp_path)
    assert found.records == RECORDS
    assert found.source == tmp_path.name
    assert found.mapping == {"text": "问题", "text_pos": "答案"}
    assert found.notes == [
        "files not read: notes.txt",
        "a.csv: read as GB18030",
        "columns: text <- 问题, text_pos <- 答案",
    ]


def test_a_folder_of_two_kinds_names_the_file(tmp_path):
    write_rows(tmp_path / "a.jsonl", ROWS)
    write_rows(tmp_path / "b.jsonl", [{"sentence1": "甲", "sentence2": "乙", "label": 1}])
    with pytest.raises(DataError, match=r"b\.jsonl holds scored pairs, but a\.jsonl holds pairs"):
        read_records(tmp_path)


def test_a_broken_file_in_a_folder_is_named(tmp_path):
    write_rows(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.csv").write_text('text,text_pos\n"open,x\n')
    with pytest.raises(DataError, match=r"sub/b\.csv, line 2"):
        read_records(tmp_path)


def test_a_folder_without_data_names_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"holds no data files; looked for \.jsonl, \.json, \.csv, \.tsv, \.parquet"):
        read_records(tmp_path)


def test_held_out_files_beside_training_files_are_not_trained_on(tmp_path):
    write_rows(tmp_path / "faq.train.jsonl", ROWS[:1])
    write_rows(tmp_path / "extra.jsonl", ROWS[1:2])
    write_rows(tmp_path / "faq.dev.jsonl", ROWS[2:])
    write_rows(tmp_path / "test" / "faq.jsonl", ROWS)
    train, validation = read_splits(tmp_path)
    assert train.records == [RECORDS[1], RECORDS[0]]
    assert validation.records == RECORDS[2:]
    assert train.notes == ["held out by name, not trained on: faq.dev.jsonl, test/faq.jsonl"]
    assert read_records(tmp_path).records == train.records


def test_files_named_test_alone_are_read(tmp_path):
    write_rows(tmp_path / "test.jsonl", ROWS)
    assert read_records(tmp_path).records == RECORDS


@pytest.mark.filterwarnings("ignore")
def test_folders_that_datasets_wrote(tmp_path):
    one = datasets.Dataset.from_list(ROWS)
    one.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": one, "validation": one.select([0])}).save_to_disk(str(tmp_path / "two"))
    assert read_records(tmp_path / "one").records == RECORDS
    train, validation = read_splits(str(tmp_path / "two"))
    assert train.records == RECORDS
    assert validation.records == RECORDS[:1]


def test_a_damaged_folder_of_datasets_is_named(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(DataError, match=f"the data set in {tmp_path} cannot be loaded"):
        read_records(tmp_path)
