"""Folders that m3e writes load without m3e, in today's sentence-transformers and in 5.1 with transformers 4.57."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e import FineTuner, load
from m3e.inference.export import ExportOptions, export
from m3e.models.folder import save
from m3e.models.names import local_models, model_path
from m3e.training import LoraTraining, PrefixTraining
from tests.conftest import OLD_POOLING_KEYS, pair_rows, write_mini
from tests.models.small_decoder import write_decoder
from tests.slow.processes import read_in, run_m3e

pytestmark = pytest.mark.slow

TEXTS = [
    "今天天气很好",
    "退货怎么办？订单地址！",
    "Ｆｕｌｌ width ＡＢＣ，１２３",
    "臺灣的發票",
    "A cat sat on the mat.",
    "def f(x):\n\treturn x + 1",
    "🙂 emoji 与 汉字 mixed２",
    " ",
    "猫狗" * 400,
    "e\u0301 \u200b zero width",
]
QUICK: dict[str, Any] = {
    "say": lambda line: None,
    "precision": "fp32",
    "epochs": 2,
    "batch_size": 16,
    "lr": 1e-3,
    "evaluations": 1,
}
MODULES = ("Transformer", "Pooling", "Dense", "Normalize", "StaticEmbedding")


def from_the_command_line(mini: Path, out: Path) -> Path:
    data = out.with_name("pairs.jsonl")
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in pair_rows(80)), "utf-8")
    run_m3e("finetune", mini, data, "--out", out, "--epochs", "1", "--lr", "1e-3", "--precision", "fp32")
    return out


def with_lora(mini: Path, out: Path) -> Path:
    FineTuner(mini, pair_rows(80), device="cpu").run(out, **QUICK, strategy=LoraTraining(rank=4))
    return out


def with_prefix_tokens(mini: Path, out: Path) -> Path:
    FineTuner(mini, pair_rows(80), device="cpu").run(out, **QUICK, strategy=PrefixTraining(["[faq]", "[zh]"]))
    return out


def with_a_shorter_length(mini: Path, out: Path) -> Path:
    FineTuner(mini, pair_rows(80), device="cpu").run(out, **QUICK, max_length=12)
    return out


def with_cls_pooling(mini: Path, out: Path) -> Path:
    return save(_with_pooling(mini, "cls"), out)


def with_last_token_pooling(mini: Path, out: Path) -> Path:
    return save(_with_pooling(mini, "lasttoken"), out)


def with_a_dense_layer(mini: Path, out: Path) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

    start = load(mini, device="cpu")
    modules = [start[0], Pooling(32, pooling_mode="mean"), Dense(32, 24), Normalize()]
    return save(SentenceTransformer(modules=modules, prompts=start.prompts, device="cpu"), out)


def _with_pooling(mini: Path, mode: str) -> Any:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    start = load(mini, device="cpu")
    return SentenceTransformer(modules=[start[0], Pooling(32, pooling_mode=mode)], prompts=start.prompts, device="cpu")


def a_decoder(mini: Path, out: Path) -> Path:
    plain = write_decoder(out.with_name("plain"))
    model = load(plain, device="cpu", pooling="lasttoken")
    model.prompts = {"query": "Instruct: 找到回答\nQuery: "}
    model.max_seq_length = 64
    return save(model, out)


def static(mini: Path, out: Path) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(mini / "tokenizer.json"))
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16), Normalize()], device="cpu")
    FineTuner(model, pair_rows(80)).run(out, **QUICK)
    return out


def exported_as_onnx(mini: Path, out: Path) -> Path:
    export(mini, out, ExportOptions("onnx", "int8"))
    return out


def exported_as_static(mini: Path, out: Path) -> Path:
    model = load(mini, device="cpu")
    model.prompts = {}  # a lookup has none that change its vectors
    export(model, out, ExportOptions("static", words=("退货", "订单地址")))
    return out


WRITERS: list[Callable[[Path, Path], Path]] = [
    from_the_command_line,
    with_lora,
    with_prefix_tokens,
    with_a_shorter_length,
    with_cls_pooling,
    with_last_token_pooling,
    with_a_dense_layer,
    static,
    exported_as_onnx,
    exported_as_static,
]


@pytest.fixture(scope="module")
def texts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.json"
    path.write_text(json.dumps(TEXTS), "utf-8")
    return path


@pytest.fixture(scope="module", params=WRITERS, ids=lambda write: write.__name__)
def written(request: pytest.FixtureRequest, mini_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that m3e wrote, by each way of writing one."""
    return request.param(mini_model, tmp_path_factory.mktemp(request.param.__name__) / "out")


@pytest.fixture(scope="module")
def read_by_both(texts_file: Path, tmp_path_factory: pytest.TempPathFactory, old_python: Path) -> Callable[[Path], Any]:
    """``read(folder)``: what plain sentence-transformers gives, without m3e, in the new and in the old stack."""

    def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        out = tmp_path_factory.mktemp("read")
        read_in(sys.executable, folder, texts_file, out / "new.npz")
        read_in(old_python, folder, texts_file, out / "old.npz")
        return dict(np.load(out / "new.npz")), dict(np.load(out / "old.npz"))

    return read


def assert_same(new: dict[str, Any], old: dict[str, Any], folder: Path, rows: Any = slice(None)) -> None:
    assert list(old["versions"]) == ["5.1.2", "4.57.6"]
    assert new["versions"][0] >= "6.2"
    for name in ("ids", "lengths", "prompts", "similarity", "max_length"):
        assert np.array_equal(new[name], old[name]), name
    assert new.keys() == old.keys()
    vectors = [name for name in new if name in ("plain", "query", "document") or name.startswith("prompt_")]
    for name in vectors:
        assert np.isfinite(new[name]).all()
        assert np.abs(new[name] - old[name])[rows].max() < 1e-5, name
    with_m3e = load(folder, device="cpu").encode(TEXTS)
    assert np.abs(new["plain"] - with_m3e).max() < 1e-5
    if "query" in json.loads(str(new["prompts"])):
        assert np.abs(new["query"] - new["plain"]).max() > 1e-3, "the query prompt changes the vectors"


def test_what_m3e_writes_is_read_alike_by_old_and_new(written: Path, read_by_both: Callable[[Path], Any]) -> None:
    assert_same(*read_by_both(written), written)


def test_a_decoder_is_read_alike_by_old_and_new(
    mini_model: Path, read_by_both: Callable[[Path], Any], tmp_path: Path
) -> None:
    folder = a_decoder(mini_model, tmp_path / "out")
    # the old sentence-transformers strips texts, and a tokenizer over bytes would have kept the blank
    assert_same(*read_by_both(folder), folder, [text == text.strip() for text in TEXTS])


@pytest.mark.parametrize("name", ["m3e-tiny", "m3e-static", "m3e-small"])
def test_our_models_are_read_alike_by_old_and_new(name: str, read_by_both: Callable[[Path], Any]) -> None:
    model = local_models()[name]
    if not model.available():
        pytest.skip(f"the weights of {name} are not here; they come with: {model.needs}")
    folder = model_path(name)
    assert_same(*read_by_both(folder), folder)


def test_the_files_say_what_old_readers_know(written: Path) -> None:
    types = [module["type"] for module in json.loads((written / "modules.json").read_text("utf-8"))]
    known = {f"sentence_transformers.models.{name}" for name in MODULES}
    assert set(types) <= known
    if (pooling := written / "1_Pooling" / "config.json").exists():
        config = json.loads(pooling.read_text("utf-8"))
        later = {key for key in config.keys() - OLD_POOLING_KEYS if config[key]}
        assert later in (set(), {"pooling_mode_lasttoken"})
        assert config.keys() - OLD_POOLING_KEYS == later, "a later mode's key only where the mode is used"
        assert sum(bool(value) for key, value in config.items() if key.startswith("pooling_mode")) == 1
    if (tokenizer := written / "tokenizer_config.json").exists():
        assert json.loads(tokenizer.read_text("utf-8"))["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_a_tuned_model_folder_has_exactly_the_old_names(mini_model: Path, tmp_path: Path) -> None:
    out = with_lora(mini_model, tmp_path / "o37")
    types = [module["type"] for module in json.loads((out / "modules.json").read_text("utf-8"))]
    assert types == [f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")]
    assert set(json.loads((out / "1_Pooling" / "config.json").read_text("utf-8"))) == OLD_POOLING_KEYS
    assert set(json.loads((out / "sentence_bert_config.json").read_text("utf-8"))) == {
        "max_seq_length",
        "do_lower_case",
    }


def test_the_reader_cannot_import_m3e(tmp_path: Path, texts_file: Path) -> None:
    folder = write_mini(tmp_path)
    (folder / "modules.json").write_text(
        (folder / "modules.json")
        .read_text("utf-8")
        .replace("sentence_transformers.models.Normalize", "m3e.models.Any"),
        "utf-8",
    )
    with pytest.raises(AssertionError, match="m3e"):
        read_in(sys.executable, folder, texts_file, tmp_path / "out.npz")
