"""Evaluation texts in training data: against loops that a child could check."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3e.data.contamination import NearIndex, evaluation_keys, read_evaluation_file, row_hash
from m3e.data.keys import hash_of_key, text_key
from m3e.data.normalise import normalise
from m3e.errors import DataError

HAN = [chr(point) for point in range(0x4E00, 0x4E60)]
SIXTY = (
    "阳台上的番茄叶子发黄可能是浇水太多也可能是缺少铁和镁先看新叶"
    "还是老叶再检查根部有没有烂掉最后把花盆搬到通风明亮的地方观察几天"
)
ENGLISH = "thequickbrownfoxjumpsoverthelazydogandrunsintotheforestwhereitsleepsuntilmorning"


def size_of(key: str) -> int:
    if len(key) >= 100:
        return 13
    return 8 if sum(char.isascii() for char in key) * 2 > len(key) else 3


def holds(training: str, evaluation: str) -> bool:
    size = size_of(evaluation)
    wanted = {evaluation[start : start + size] for start in range(len(evaluation) - size + 1)}
    return len([gram for gram in wanted if gram in training]) >= 0.8 * len(wanted)


def naive(training: list[str], evaluation: list[str]) -> list[bool]:
    return [any(holds(text, key) for key in evaluation if len(key) >= 10) for text in training]


def random_text(rng: random.Random, size: int, letters: list[str] = HAN) -> str:
    return "".join(rng.choices(letters, k=size))


def test_near_is_what_a_naive_loop_finds() -> None:
    rng = random.Random(3)
    evaluation = [random_text(rng, rng.randint(4, 220)) for _ in range(150)]
    evaluation += [random_text(rng, rng.randint(10, 120), list("abcdefghij")) for _ in range(60)]
    evaluation += ["哈" * 10, "哈哈好" * 5, "ab" * 8, "一" * 120, "哈" * 9]
    training = [random_text(rng, rng.randint(0, 300)) for _ in range(100)]
    for text in evaluation * 2:
        letters = list(text)
        for position in rng.sample(range(len(letters)), min(len(letters), rng.randint(0, 1 + len(letters) // 12))):
            letters[position] = rng.choice(["", "啊", "x", "啊啊"])
        around = random_text(rng, rng.choice([0, 0, 50]))
        training.append(around[:20] + "".join(letters) + around[20:])
    expected = naive(training, evaluation)
    assert 150 < sum(expected) < 480
    assert NearIndex(evaluation).near(training).tolist() == expected


@given(
    st.lists(st.text("ab中国", min_size=8, max_size=16), max_size=6),
    st.lists(st.text("ab中国", max_size=24), max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_near_is_what_a_naive_loop_finds_among_few_letters(evaluation: list[str], training: list[str]) -> None:
    assert NearIndex(evaluation).near(training).tolist() == naive(training, evaluation)


@pytest.mark.parametrize(
    ("training", "near"),
    [
        (SIXTY, True),
        (SIXTY.replace("番", "蕃"), True),  # one character changed
        (SIXTY[:30] + "嗯" + SIXTY[30:], True),
        ("请问各位老师" * 5 + SIXTY + "谢谢大家" * 20, True),  # inside a longer one
        (SIXTY[: int(len(SIXTY) * 0.7)], False),
        (SIXTY[::-1], False),
        (ENGLISH.replace("lazy", "lady"), True),
        (ENGLISH[:50], False),
        ("", False),
        ("阳台", False),
    ],
)
def test_nearly_the_same_text(training: str, near: bool) -> None:
    assert len(SIXTY) >= 60
    assert NearIndex([text_key(SIXTY), ENGLISH]).near([training]).tolist() == [near]


def test_long_texts_by_thirteen_characters() -> None:
    rng = random.Random(1)
    long = random_text(rng, 200)
    index = NearIndex([long])
    pieces = "，".join(
        long[start : start + 12] for start in range(0, 200, 12)
    )  # every 3-gram but those across, no 13-gram
    changed = long[:100] + "某" + long[101:]
    assert index.near([pieces, changed, long[:150] + "某" * 50, long[10:] + "某" * 10]).tolist() == [
        False,
        True,
        False,
        True,
    ]


def test_texts_of_fewer_than_ten_key_characters_are_not_near() -> None:
    assert NearIndex(["一二三四五六七八九"]).near(["一二三四五六七八九", "零一二三四五六七八九"]).tolist() == [
        False,
        False,
    ]
    assert NearIndex([]).near(["一", ""]).tolist() == [False, False]
    assert NearIndex([SIXTY]).near([]).tolist() == []


def test_saved_and_loaded_it_finds_the_same(tmp_path: Path) -> None:
    rng = random.Random(5)
    evaluation = [random_text(rng, rng.randint(8, 150)) for _ in range(60)] + [ENGLISH]
    index = NearIndex(evaluation)
    index.save(tmp_path / "index")
    loaded = NearIndex.load(tmp_path / "index")
    assert loaded.keys == index.keys == [key for key in evaluation if len(key) >= 10]
    training = [text[1:] + "完" for text in evaluation] + ["无关"]
    found = loaded.near(training)
    assert found.tolist() == index.near(training).tolist() == naive(training, evaluation)
    assert found.any()
    NearIndex([]).save(tmp_path / "none")
    assert NearIndex.load(tmp_path / "none").near(training).sum() == 0


def test_a_row_s_hash_knows_no_order() -> None:
    assert row_hash(["乙", "甲"]) == row_hash(["甲", "乙"]) == hash_of_key("乙\x1f甲")
    assert len({row_hash(keys) for keys in (["甲", "乙"], ["甲乙"], ["甲"], ["甲", "甲"], ["甲", "乙", ""])}) == 5


def write(path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def hashes(*texts: str) -> list[int]:
    return sorted(hash_of_key(text_key(text)) for text in texts)


def test_the_keys_of_an_evaluation_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "lcqmc.dev.parquet",
        sentence1=["怎么退货呢？？", "怎么退货呢", "短句", "Ａ　ＢＣＤＥＦ"],
        sentence2=["如何办理退货！", "如何办理，退货", "短句", None],
        label=[1, 0, 1, 0],
    )
    file, keys = read_evaluation_file(path)
    assert file.name == "lcqmc.dev"
    assert file.rows.tolist() == sorted(
        {row_hash(["怎么退货呢", "如何办理退货"]), row_hash(["短句", "短句"]), row_hash(["abcdef"])}
    )
    assert file.queries.tolist() == hashes("如何办理退货", "abcdef")  # of six characters, each once
    assert file.passages.tolist() == []
    assert file.all_rows.tolist() == file.rows.tolist()
    assert file.all_texts.tolist() == file.queries.tolist()
    assert keys == ["abcdef", "如何办理退货", "怎么退货呢", "短句"]


def test_queries_and_passages_of_other_layouts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.parquet",
        query=["什么是番茄叶"],
        pos=[["番茄的叶子啊", "也叫西红柿叶"]],
        neg=[["土豆的叶子啊"]],
        score=[0.5],
    )
    file, _ = read_evaluation_file(path, "别名")
    assert file.name == "别名"
    assert file.queries.tolist() == hashes("什么是番茄叶")
    assert file.passages.tolist() == hashes("番茄的叶子啊", "也叫西红柿叶", "土豆的叶子啊")
    other = write(tmp_path / "其他.parquet", 问=["一个很长的问题"], 答=["一个很长的回答"], 号=[3])
    assert list(evaluation_keys(other)) == [(["一个很长的问题", "一个很长的回答"], [])]


def test_evaluation_texts_are_looked_for_as_typed_and_as_normalised(tmp_path: Path) -> None:
    path = write(tmp_path / "e.parquet", text=["<p>臺灣的<br/>天氣</p>如何"])
    file, keys = read_evaluation_file(path, tidy=lambda text: normalise(text, simplified=True))
    typed, tidied = text_key("<p>臺灣的<br/>天氣</p>如何"), "台湾的天气如何"
    assert keys == sorted([typed, tidied])
    assert file.rows.tolist() == [row_hash([tidied])]
    assert file.queries.tolist() == hashes(tidied)
    assert file.all_rows.tolist() == sorted([row_hash([tidied]), row_hash([typed])])
    assert file.all_texts.tolist() == sorted([hash_of_key(typed), hash_of_key(tidied)])
    assert file.all_rows.dtype == np.uint64


def test_a_damaged_evaluation_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.dev.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"x\.dev\.parquet"):
        read_evaluation_file(tmp_path / "x.dev.parquet")
