"""Training side by side with sentence-transformers' trainer: the same texts, model, loss and rows a batch.

    python benchmarks/train.py [--quick] [--gpu] --json benchmarks/results/train.json

On a processor: the shape of the m3e-small of 2023 (4 layers, 512 wide, random weights, a tokenizer of single Chinese
characters) and e5-small, against sentence-transformers' trainer as it comes (fp32), at its best setting (bf16, rows
grouped by length), and uniem's manner (fp32, every batch padded as it falls). With ``--gpu``: the shapes of m3e-small
and m3e-base, 8,192 rows a batch by gradient caching, texts of up to 128 and 512 tokens, against
``CachedMultipleNegativesRankingLoss`` in bf16 at the best of some mini-batch sizes.

Time is taken from the end of a run's first step to the end of its last, reading and tokenising included. Runs
alternate, medians count. Each figure is printed and written as soon as it is there.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.pop("OPENBLAS_CORETYPE", None)  # it would hold the peers' matrix products to an older processor
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not survive the fork of a data loader: it waits for ever
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from transformers import TrainerCallback

from m3e.files import hash_settings, read_json, write_json
from m3e.machine import bf16_is_fast, machine
from m3e.models.folder import write_transformer
from m3e.training.batches import PlanOptions, plan_batches
from m3e.training.cached_loss import TOKEN_BUDGET, TOKEN_BUDGET_GPU, CachedTextLoss
from m3e.training.flops import model_flops, peak_flops
from m3e.training.losses import InBatchSoftmaxLoss
from m3e.training.memory import tokens_that_fit
from m3e.training.planned_loader import PlannedBatches
from m3e.training.planned_trainer import PlannedTrainer
from m3e.training.sources import Source
from m3e.training.token_store import TokenStore
from m3e.training.tokenise import Tokenisation, build_token_store

TEMPERATURE = 0.01
OURS, DEFAULT, BEST, UNIEM = "ours", "sentence_transformers_default", "sentence_transformers_best", "uniem_manner"
WAYS: dict[str, dict[str, Any]] = {
    "bf16": {"precision": "bf16"},
    "bf16, compiled": {"precision": "bf16", "compile_layers": True},
}
"""How ours can run on a GPU; the fastest in a short trial does."""

HAN = [chr(point) for point in range(0x4E00, 0x4E00 + 6000)]
WORDS = ["embedding", "model", "server", "token", "search", "python", "cloud", "update", "error", "file", "data"]


@dataclass(frozen=True)
class Shape:
    """An encoder of random weights, or a model's name, and what it is trained on."""

    name: str
    rows: int
    length: int
    layers: int = 4
    hidden: int = 512
    steps: int = 1
    runs: int = 3


CPU = (Shape("m3e-small-2023", 64, 256, steps=4), Shape("e5-small", 32, 128, steps=4))
CPU_QUICK = (Shape("m3e-small-2023", 16, 128, steps=2, runs=1), Shape("e5-small", 8, 64, steps=2, runs=1))
GPU = (
    Shape("m3e-base", 8192, 128, 12, 768, steps=2, runs=1),
    Shape("m3e-small-2023", 8192, 128, steps=3, runs=1),
    Shape("m3e-base", 8192, 512, 12, 768, steps=2, runs=1),
    Shape("m3e-small-2023", 8192, 512, steps=2, runs=1),
)
GPU_QUICK = tuple(replace(shape, rows=1024, steps=1) for shape in GPU)


def texts(count: int, length: int, seed: int) -> list[tuple[str, str]]:
    """Questions and passages whose lengths vary as those of real ones do; some are longer than ``length`` tokens."""
    random = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, len(HAN) + 1)
    popularity /= popularity.sum()
    sizes = np.stack([random.lognormal(np.log(share * length), 0.6, count) for share in (0.2, 0.7)], axis=1)
    sizes = np.clip(sizes, 6, 2 * length).astype(int)
    characters = random.choice(HAN, int(sizes.sum()), p=popularity)
    words = random.choice(WORDS, sizes.size)
    ends = np.cumsum(sizes.ravel())
    cut = ["".join(characters[end - size : end]) for end, size in zip(ends, sizes.ravel(), strict=True)]
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in cut]
    written = [f"{first} {word} {second}" for (first, second), word in zip(halves, words, strict=True)]
    return list(zip(written[::2], written[1::2], strict=True))


def write_model(folder: Path, shape: Shape) -> None:
    """A BERT of random weights over single Chinese characters and WordPieces, with a vocabulary as large as BERT's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    pieces += [chr(0x4E00 + number) for number in range(21128 - len(pieces))]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // 64,
        intermediate_size=4 * shape.hidden,
        pad_token_id=0,
    )
    write_transformer(
        folder,
        BertModel(config, add_pooling_layer=False),
        tokenizer,
        special_tokens={"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
        max_length=shape.length,
    )


def model_folder(work: Path, shape: Shape) -> Path:
    if shape.name == "e5-small":
        from m3e.models.names import model_path

        return model_path("e5-small")
    folder = work / f"{shape.name}-{shape.length}"
    if not folder.exists():
        folder.mkdir()
        write_model(folder, shape)
    return folder


class Clock(TrainerCallback):
    """The moments at which steps ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """A step's, the first left out, which warms up."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


class GroupedByLength(DefaultBatchSampler):
    """Batches of rows of like lengths, as transformers' LengthGroupedSampler makes them: sorted within 50 batches.

    The first rows make the batch that warms up; those that are measured are all others, each once.
    """

    def __init__(self, dataset: Dataset, batch_size: int, *args: Any, **options: Any) -> None:
        super().__init__(dataset, batch_size, *args, **options)
        rows = zip(dataset["text"], dataset["text_pos"], strict=True)
        self.sizes = np.array([len(question) + len(passage) for question, passage in rows])

    def __iter__(self) -> Iterator[list[int]]:
        yield list(range(self.batch_size))
        order = np.random.default_rng(self.seed).permutation(np.arange(self.batch_size, len(self.sizes)))
        span = 50 * self.batch_size
        groups = [order[start : start + span] for start in range(0, len(order), span)]
        order = np.concatenate([group[np.argsort(-self.sizes[group], kind="stable")] for group in groups])
        batches = [order[start : start + self.batch_size].tolist() for start in range(0, len(order), self.batch_size)]
        yield from (batches[number] for number in np.random.default_rng(self.seed).permutation(len(batches)))

    def __len__(self) -> int:
        return len(self.sizes) // self.batch_size


def arguments(work: Path, shape: Shape, **options: Any) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        output_dir=str(work / "run"),
        per_device_train_batch_size=shape.rows,
        max_steps=1 + shape.steps,
        learning_rate=3e-5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=10_000,
        dataloader_drop_last=True,
        use_cpu=not torch.cuda.is_available(),
        seed=1,
        **options,
    )


@dataclass
class Contest:
    """One shape's model, texts and token store."""

    shape: Shape
    work: Path
    pairs: list[tuple[str, str]]  # the rows of one batch that warms up, and of those that are measured
    folder: Path
    store: TokenStore
    device: str

    @property
    def dataset(self) -> Dataset:
        questions, passages = zip(*self.pairs, strict=True)
        return Dataset.from_dict({"text": list(questions), "text_pos": list(passages)})

    def model(self) -> SentenceTransformer:
        torch.manual_seed(0)
        return SentenceTransformer(str(self.folder), device=self.device)

    def sentence_transformers(self, *, bf16: bool, grouped: bool, mini_batch: int | None = None) -> float:
        model = self.model()
        options: dict[str, Any] = {"bf16": bf16}
        if grouped:
            options["batch_sampler"] = GroupedByLength
        if self.device == "cuda":
            options.update(dataloader_num_workers=4, dataloader_prefetch_factor=2, tf32=True)
        both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
        scale = 1 / TEMPERATURE
        loss: Any = (
            CachedMultipleNegativesRankingLoss(model, scale=scale, mini_batch_size=mini_batch, **both)
            if mini_batch
            else MultipleNegativesRankingLoss(model, scale=scale, **both)
        )
        clock = Clock()
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments(self.work, self.shape, **options),
            train_dataset=self.dataset,
            loss=loss,
            callbacks=[clock],
        )
        trainer.train()
        return clock.seconds

    def uniem(self) -> float:
        """A plain loop: each side padded to its longest, the similarities by broadcasting, fp32."""
        model = self.model()
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-5)
        order = np.random.default_rng(1).permutation(len(self.pairs))
        clock = Clock()
        for step in range(1 + self.shape.steps):
            rows = [self.pairs[index] for index in order[step * self.shape.rows : (step + 1) * self.shape.rows]]
            sides = [model.preprocess([row[side] for row in rows]) for side in (0, 1)]
            left, right = (model(side)["sentence_embedding"] for side in sides)
            scores = torch.cosine_similarity(left.unsqueeze(1), right.unsqueeze(0), dim=-1) / TEMPERATURE
            torch.nn.functional.cross_entropy(scores, torch.arange(len(rows))).backward()
            optimizer.step()
            optimizer.zero_grad()
            clock.on_step_end()
        return clock.seconds

    def ours(self, precision: Any = None, *, compile_layers: bool = False) -> tuple[float, dict[str, Any]]:
        model = self.model()
        gpu = self.device == "cuda"
        precision = precision or ("bf16" if gpu or bf16_is_fast() else "fp32")
        plan = plan_batches(self.store.sets, PlanOptions(self.shape.rows, steps=1 + self.shape.steps, seed=1))
        loss = CachedTextLoss(
            model,
            InBatchSoftmaxLoss(model, TEMPERATURE),
            precision=precision,
            kept_tokens=tokens_that_fit(model, self.shape.length, precision, TOKEN_BUDGET_GPU if gpu else TOKEN_BUDGET),
            rows_at_once=2048 if gpu else 512,
        )
        clock = Clock()
        trainer = PlannedTrainer(
            model,
            arguments(self.work, self.shape, dataloader_num_workers=2 if gpu else 0, **({"tf32": True} if gpu else {})),
            loss,
            PlannedBatches(plan, self.store.sets),
            compile_layers=compile_layers,
            callbacks=[clock],
        )
        trainer.train()
        # all steps counted: the mean step's work belongs to the mean step's time
        work = trainer.work_done
        share = 1 / len(clock.ends)
        flops = model_flops(model, int(work.tokens * share), int(work.square * share))
        found: dict[str, Any] = {
            "precision": precision,
            "compiled": compile_layers,
            "unpadded": loss.unpadded,
            "tokens_per_second": round(work.tokens * share / clock.seconds),
            "padding": round(1 - work.tokens / work.positions, 4),
            "recomputed": round(work.recomputed / work.positions, 4),
        }
        peak = peak_flops(model.device, precision)
        if peak is not None:
            found["mfu"] = round(flops / clock.seconds / peak, 4)
        return clock.seconds, found


def prepare(work: Path, shape: Shape) -> tuple[Path, Path, TokenStore]:
    """The model's folder, the file of the pairs and their token ids; what is there is used again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = model_folder(work, shape)
    shard = work / f"{shape.name}-{shape.length}.parquet"
    rows = shape.rows * (1 + shape.steps)
    if not shard.exists():
        pairs = texts(rows, shape.length, seed=7)
        pq.write_table(pa.table({"text": [row[0] for row in pairs], "text_pos": [row[1] for row in pairs]}), shard)
    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = shape.length
    source = Source("pairs", "pair", "s2p", False, 1.0, rows, (shard,), hash_settings([shape.name, shape.length]))
    tokens = work / f"tokens-{shape.name}-{shape.length}"
    return folder, shard, build_token_store([source], Tokenisation.of(model, [source]), tokens, workers=1)


def contest(work: Path, shape: Shape, device: str) -> Contest:
    import pyarrow.parquet as pq

    folder, shard, store = prepare(work, shape)
    pairs = [(row["text"], row["text_pos"]) for row in pq.read_table(shard).to_pylist()]
    return Contest(shape, work, pairs, folder, store, device)


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def on_processor(shape: Shape, work: Path) -> dict[str, Any]:
    """Seconds of all contestants, in turn, ``shape.runs`` times over."""
    here = contest(work, shape, "cpu")
    facts: dict[str, Any] = {}

    def ours() -> float:
        seconds, found = here.ours()
        facts.update(found)
        return seconds

    runs: dict[str, Callable[[], float]] = {
        OURS: ours,
        DEFAULT: lambda: here.sentence_transformers(bf16=False, grouped=False),
        BEST: lambda: here.sentence_transformers(bf16=bf16_is_fast(), grouped=True),
        UNIEM: here.uniem,
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(shape.runs):
        for name, run in runs.items():
            seconds[name].append(run())
            free()
            print(f"{shape.name} {name} run {number + 1}: {shape.rows / seconds[name][-1]:.2f} rows/s", flush=True)
    return result(shape, {name: statistics.median(values) for name, values in seconds.items()}, facts)


def on_gpu(shape: Shape, work: Path) -> dict[str, Any]:
    """Ours, compiled and not, and the peer at the best of some mini-batch sizes."""
    here = contest(work, shape, "cuda")
    trial = replace(here, shape=replace(shape, rows=min(shape.rows, 2048), steps=1))
    sizes = (512, 2048) if shape.length <= 128 else (128, 512)
    tried: dict[str, dict[str, float | None]] = {OURS: {}, BEST: {}}
    for name in WAYS:
        tried[OURS][name] = attempt(lambda n=name: trial.ours(**WAYS[n])[0])
    for size in sizes:
        tried[BEST][str(size)] = attempt(
            lambda s=size: trial.sentence_transformers(bf16=True, grouped=True, mini_batch=s)
        )
    print(f"{shape.name} {shape.length}: trials of {trial.shape.rows} rows, seconds a step: {tried}", flush=True)
    best = {name: min((value, key) for key, value in found.items() if value)[1] for name, found in tried.items()}
    peer = here.sentence_transformers(bf16=True, grouped=True, mini_batch=int(best[BEST]))
    print(f"{shape.name} {shape.length} {BEST}: {shape.rows / peer:.0f} rows/s", flush=True)
    free()
    seconds, facts = here.ours(**WAYS[best[OURS]])
    print(f"{shape.name} {shape.length} ours: {shape.rows / seconds:.0f} rows/s {facts}", flush=True)
    free()
    return result(shape, {OURS: seconds, BEST: peer}, {**facts, "trials": tried})


def attempt(run: Callable[[], float]) -> float | None:
    """Its seconds; ``None`` where it failed, which is said: one setting that cannot run must not end the others."""
    try:
        return round(run(), 3)
    except Exception as error:
        print(f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
        return None
    finally:
        free()


def result(shape: Shape, seconds: dict[str, float], facts: dict[str, Any]) -> dict[str, Any]:
    speeds = {name: round(shape.rows / value, 2) for name, value in seconds.items()}
    peers = {name: {"rows_per_second": speed} for name, speed in speeds.items() if name != OURS}
    return {
        "rows": shape.rows,
        "length": shape.length,
        OURS: {"rows_per_second": speeds[OURS], **facts},
        "peers": peers,
        "ratios": {name: round(speeds[OURS] / speeds[name], 3) for name in peers},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--gpu", action="store_true", help="the part for a GPU only")
    parser.add_argument("--only", action="append", help="a shape by name; may be repeated")
    options = parser.parse_args()
    if options.gpu:
        shapes, run, part = (GPU_QUICK if options.quick else GPU), on_gpu, "gpu"
    else:
        shapes, run, part = (CPU_QUICK if options.quick else CPU), on_processor, "cpu"
    report: dict[str, Any] = read_json(options.json) if options.json.exists() else {}
    if options.gpu and not torch.cuda.is_available():
        report["gpu"] = {"ran": False, "reason": "no GPU is here"}
        print("gpu: did not run, no GPU is here", flush=True)
        write_json(options.json, report)
        return
    with tempfile.TemporaryDirectory() as folder:
        chosen = [shape for shape in shapes if not options.only or shape.name in options.only]
        start = multiprocessing.get_context("spawn").Process
        # a GPU does not wait for texts to be made: each shape's are made beside the shapes before it
        makers = [start(target=prepare, args=(Path(folder), shape)) for shape in chosen if options.gpu]
        for maker in makers:
            maker.start()
        for number, shape in enumerate(chosen):
            if makers:
                makers[number].join()
            started = time.monotonic()
            found = run(shape, Path(folder))
            name = f"{shape.name}/{shape.length}" if options.gpu else shape.name
            print(f"{part} {name}: {found['ratios']} ({time.monotonic() - started:.0f} s)", flush=True)
            report.setdefault(part, {"ran": True, "shapes": {}}).setdefault("shapes", {})[name] = found
            report[part]["ran"] = True
            if options.gpu:
                report["gpu"]["device"] = torch.cuda.get_device_name()
            write_json(options.json, summarised(report))


def summarised(report: dict[str, Any]) -> dict[str, Any]:
    """The report with the shapes on top, the lowest ratio of each peer: the form that all benchmarks share."""
    report.setdefault("gpu", {"ran": False, "reason": "not asked for; --gpu runs it where a GPU is"})
    shapes = report.get("cpu", {}).get("shapes", {})
    if shapes:
        ours = {name: found[OURS] for name, found in shapes.items()}
        peers = {name: found["peers"] for name, found in shapes.items()}
        by_model = {name: found["ratios"] for name, found in shapes.items()}
        ratios = {peer: min(of[peer] for of in by_model.values()) for peer in next(iter(by_model.values()))}
        report.update(ours=ours, peers=peers, ratios=ratios, ratios_by_model=by_model, machine=machine().as_dict())
    return report


if __name__ == "__main__":
    main()
