"""Train the bundled m3e-static and m3e-tiny from nothing: own tokenizer, own weights.

Text: training files whose ``commercial`` is ``yes`` (the rest is left out, whatever it may turn out
to be), less every text that also stands in a dev, test or trial file. Teacher: e5-small's centred vectors.

    python scripts/train_bundled.py DATA WORK --steps 2800

Stages, each a file or folder in WORK, each resumed where it stopped:
texts.parquet → tokenizer.json → teacher/ → static.pt → tiny.pt → the assets of the package.
A GPU is used where there is one: then 900,000 texts and tens of thousands of steps take minutes.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import BertConfig, BertModel

from m3e.catalogue.cards import DatasetCard
from m3e.catalogue.local import evaluation_files, read_catalogue, training_files
from m3e.data.keys import key_hash, text_key
from m3e.files import atomic_file, read_json, write_json
from m3e.models.bundled import ASSETS, pack
from m3e.models.card import front_matter, usage
from m3e.models.folder import write_transformer
from m3e.models.static import write_static
from m3e.models.tokenizers import SPECIAL_TOKENS, train_tokenizer

SEED = 20230605
VOCABULARY = 27_000
HIDDEN = 384
LAYERS = 4
ROWS_A_CHINESE_SET = 60_000
ROWS_A_SET = 15_000  # of code, English and parallel text, which would outweigh the rest
LONGEST = 160  # characters
PASSAGE = 480  # of every third text that is longer, so that positions far out are learned too
POSITIONS = 512
TEXT_COLUMNS = ("text", "text_pos", "text_neg", "sentence1", "sentence2")
SENTENCE_END = re.compile(r"(?<=[。！？!?；\n])")
TEMPERATURE = 0.05
WARM = 300  # steps
LONG = 40  # tokens


# texts


def evaluation_keys(folder: Path) -> set[int]:
    """Keys of every evaluation text of at least 6 key characters, and of the sentences inside them."""
    keys: set[int] = set()
    for path in evaluation_files(folder):
        table = pq.read_table(path)
        for column in table.column_names:
            if not pa.types.is_string(table[column].type):
                continue
            for value in table[column].to_pylist():
                for part in [value or "", *SENTENCE_END.split(value or "")]:
                    if len(text_key(part)) >= 6:
                        keys.add(key_hash(part))
    return keys


def read_texts(card: DatasetCard, files: list[Path], rng: random.Random) -> Iterator[str]:
    prose = card.languages == ("zh",) and card.category != "s2c"
    limit = ROWS_A_CHINESE_SET if prose else ROWS_A_SET
    for path in files:
        schema = pq.read_schema(path)
        columns = [name for name in TEXT_COLUMNS if name in schema.names]
        if not columns:
            continue
        table = pq.read_table(path, columns=columns)
        rows = range(table.num_rows)
        chosen = sorted(rng.sample(rows, min(limit, len(rows))))
        for name in columns:
            yield from (value for value in table[name].take(chosen).to_pylist() if value)


def pieces_of(text: str, rng: random.Random) -> Iterator[str]:
    """A short text as it is; a longer one as its start, and as two of its sentences."""
    text = text.strip()
    if len(text) <= LONGEST // 2:
        yield text
        return
    yield text[: PASSAGE if len(text) > LONGEST and rng.random() < 1 / 3 else LONGEST]
    sentences = [part.strip() for part in SENTENCE_END.split(text) if 6 <= len(part.strip()) <= LONGEST]
    yield from rng.sample(sentences, min(2, len(sentences)))


def collect_texts(data: Path, work: Path, most: int) -> None:
    target = work / "texts.parquet"
    if target.exists():
        return
    rng = random.Random(SEED)
    forbidden = evaluation_keys(data)
    seen: set[int] = set()
    texts: list[tuple[str, int]] = []
    counts: Counter[str] = Counter()
    cards: list[DatasetCard] = []
    files = training_files(data)
    for card in read_catalogue(data):
        if card.name not in files:
            continue
        if card.licence.commercial != "yes":
            counts["sets left out by licence"] += 1
            continue
        cards.append(card)
        for text in read_texts(card, files[card.name], rng):
            for piece in pieces_of(text, rng):
                key = key_hash(piece)
                if len(text_key(piece)) < 2 or key in seen:
                    counts["blank, tiny or repeated"] += 1
                elif key in forbidden:
                    counts["in an evaluation file"] += 1
                else:
                    seen.add(key)
                    texts.append((piece, len(cards) - 1))
    rng.shuffle(texts)
    texts = texts[:most]
    with atomic_file(target) as temporary:
        pq.write_table(pa.table({"text": [text for text, _ in texts]}), temporary, compression="zstd")
    distilled = Counter(owner for _, owner in texts)
    used = [
        {
            "name": cards[owner].name,
            "licence": cards[owner].licence.stated,
            "source": cards[owner].provider,
            "texts": count,
        }
        for owner, count in sorted(distilled.items())
    ]
    write_json(work / "texts.json", {"texts": sum(distilled.values()), "dropped": counts, "sets": used})
    print(f"{len(texts)} texts of {len(used)} sets; {dict(counts)}")


# teacher


def read_work_texts(work: Path) -> list[str]:
    texts: list[str] = pq.read_table(work / "texts.parquet")["text"].to_pylist()
    return texts


def teach(work: Path) -> None:
    """Vectors of e5-small in fp16, 20,000 texts a step, resumable."""
    from m3e.inference import Encoder

    texts = read_work_texts(work)
    parts = work / "teacher"
    parts.mkdir(exist_ok=True)
    encoder = None
    for start in range(0, len(texts), 20_000):
        target = parts / f"{start:08d}.npy"
        if target.exists():
            continue
        encoder = encoder or Encoder("e5-small", token_budget=65_536 if torch.cuda.is_available() else None)
        vectors = encoder.encode_query(texts[start : start + 20_000])
        with atomic_file(target) as temporary, temporary.open("wb") as stream:
            np.save(stream, vectors.astype(np.float16))
        print(f"teacher {start + len(vectors)} of {len(texts)}", flush=True)


def targets(work: Path) -> torch.Tensor:
    """The teacher's vectors, centred and normalised again, (texts, HIDDEN) fp32."""
    parts = sorted((work / "teacher").glob("*.npy"))
    vectors = torch.from_numpy(np.concatenate([np.load(part) for part in parts])).float()
    return nn.functional.normalize(vectors - vectors.mean(0), dim=1)


# tokenizer


def make_tokenizer(work: Path) -> Tokenizer:
    """A Unigram tokenizer of at most ``VOCABULARY`` pieces, trained on the first 400,000 texts."""
    target = work / "tokenizer.json"
    if target.exists():
        return Tokenizer.from_file(str(target))
    tokenizer = train_tokenizer(read_work_texts(work)[:400_000], vocabulary=VOCABULARY)
    with atomic_file(target) as temporary:
        tokenizer.save(str(temporary))
    print(f"tokenizer of {tokenizer.get_vocab_size()} pieces")
    return tokenizer


@dataclass(frozen=True)
class TokenRows:
    """Token ids of all texts, one after another, and where each text starts and ends, on the device that trains."""

    flat: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def padded(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of some texts, (rows, longest), without special tokens."""
        lengths = self.lengths[rows]
        places = torch.arange(int(lengths.max()), device=self.flat.device)
        mask = places < lengths[:, None]
        return self.flat[(self.starts[rows, None] + places) * mask], mask


def token_ids(work: Path, tokenizer: Tokenizer, device: torch.device) -> TokenRows:
    texts = read_work_texts(work)
    ids: list[np.ndarray[Any, Any]] = []
    for start in range(0, len(texts), 20_000):
        encodings = tokenizer.encode_batch_fast(texts[start : start + 20_000], add_special_tokens=False)
        ids.extend(np.asarray(encoding.ids[: POSITIONS - 2], dtype=np.int32) for encoding in encodings)
    lengths = torch.tensor([len(row) for row in ids])
    flat = torch.from_numpy(np.concatenate(ids).astype(np.int64))
    return TokenRows(flat.to(device), (lengths.cumsum(0) - lengths).to(device), lengths.to(device))


# losses


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - cosine to the teacher's vector, plus softmax of picking it out of the batch; both (batch, HIDDEN)."""
    student = nn.functional.normalize(student, dim=1)
    logits = student @ teacher.T / TEMPERATURE
    labels = torch.arange(len(student), device=student.device)
    contrast = nn.functional.cross_entropy(logits, labels)
    cosine = 1 - (student * teacher).sum(1).mean()
    return 2 * cosine + 0.1 * contrast


# static


def train_static(work: Path, ids: TokenRows, teacher: torch.Tensor, epochs: int) -> torch.Tensor:
    target = work / "static.pt"
    if target.exists():
        return torch.load(target)
    torch.manual_seed(SEED)
    device = ids.flat.device
    counts = torch.bincount(ids.flat, minlength=VOCABULARY).double()
    total = torch.zeros(VOCABULARY, HIDDEN, device=device)
    # start: a piece is the mean of the texts that it stands in, frequent pieces weigh less
    for rows in torch.arange(len(ids), device=device).split(20_000):
        tokens, mask = ids.padded(rows)
        total.index_add_(0, tokens[mask], teacher[rows].repeat_interleave(ids.lengths[rows], dim=0))
    frequency = (counts / counts.sum()).float()
    weights = nn.functional.normalize(total, dim=1) * (1e-3 / (1e-3 + frequency)).unsqueeze(1)
    bag = nn.EmbeddingBag.from_pretrained(weights, freeze=False, mode="mean", sparse=True)
    optimizer = torch.optim.SparseAdam(bag.parameters(), lr=2e-3)
    batch, steps = 1024, epochs * (len(ids) // 1024)
    step, order = 0, np.random.default_rng(SEED)
    started = time.time()
    for _ in range(epochs):
        permutation = torch.from_numpy(order.permutation(len(ids))).to(device)
        for rows in permutation[: len(ids) // batch * batch].split(batch):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * (1 - step / steps) + 1e-5
            tokens, mask = ids.padded(rows)
            offsets = ids.lengths[rows].cumsum(0) - ids.lengths[rows]
            loss = distillation_loss(bag(tokens[mask], offsets), teacher[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 1000 == 0:
                print(f"static {step}/{steps} loss {loss.item():.4f} {time.time() - started:.0f}s", flush=True)
    with atomic_file(target) as temporary:
        torch.save(bag.weight.detach(), temporary)
    return bag.weight.detach()


# tiny


def tiny_config() -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        intermediate_size=4 * HIDDEN,
        max_position_embeddings=POSITIONS,
        type_vocab_size=1,
        pad_token_id=0,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def start_from_static(encoder: BertModel, static: torch.Tensor) -> None:
    """Token embeddings from the static model; the layers start as small corrections of them."""
    with torch.no_grad():
        scale = static.norm(dim=1).mean()
        encoder.embeddings.word_embeddings.weight.copy_(static / scale * math.sqrt(HIDDEN) * 0.05)
        for layer in encoder.encoder.layer:
            layer.attention.output.dense.weight.mul_(0.3)
            layer.output.dense.weight.mul_(0.3)


def pooled(encoder: BertModel, ids: TokenRows, rows: torch.Tensor) -> torch.Tensor:
    tokens, mask = ids.padded(rows)
    lengths = ids.lengths[rows, None]
    framed = torch.zeros((len(rows), tokens.shape[1] + 2), dtype=torch.long, device=tokens.device)
    framed[:, 1:-1] = tokens * mask
    framed[:, 0] = 2
    framed.scatter_(1, lengths + 1, 3)
    seen = torch.arange(framed.shape[1], device=tokens.device) < lengths + 2
    with torch.autocast(framed.device.type, dtype=torch.bfloat16):
        hidden = encoder(input_ids=framed, attention_mask=seen.long()).last_hidden_state
    spread = seen.unsqueeze(-1).float()
    return (hidden.float() * spread).sum(1) / spread.sum(1)


def batches(
    lengths: np.ndarray[Any, Any], size: int, long_share: float, rng: np.random.Generator
) -> Iterator[np.ndarray[Any, Any]]:
    """Batches of texts of like length, in random order, for one epoch.

    Of the batches of long texts, which cost the most and teach the least, only ``long_share`` are taken.
    """
    order = rng.permutation(len(lengths))
    chunk = size * 50
    for start in range(0, len(order), chunk):
        part = order[start : start + chunk]
        part = part[np.argsort(lengths[part], kind="stable")]
        groups = [part[at : at + size] for at in range(0, len(part) - size + 1, size)]
        for index in rng.permutation(len(groups)):
            if lengths[groups[index]].mean() <= LONG or rng.random() < long_share:
                yield groups[index]


def train_tiny(
    work: Path, ids: TokenRows, teacher: torch.Tensor, static: torch.Tensor, options: argparse.Namespace
) -> BertModel:
    """Distil for some steps; a checkpoint every 500 steps holds all that a resumed run needs."""
    torch.manual_seed(SEED)
    encoder = BertModel(tiny_config(), add_pooling_layer=False)
    start_from_static(encoder, static.cpu())
    encoder.to(ids.flat.device)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=options.lr, weight_decay=0.01, fused=True)
    checkpoint = work / "tiny.pt"
    done = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        encoder.load_state_dict(state["encoder"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    lengths = ids.lengths.cpu().numpy()
    step, epoch, started, steps = 0, 0, time.time(), options.steps
    encoder.train()
    while step < steps:
        for batch in batches(lengths, options.batch, options.long_share, np.random.default_rng(SEED + epoch)):
            step += 1
            if step <= done:
                continue
            rate = options.lr * min(1.0, step / WARM) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-6
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = torch.from_numpy(batch).to(ids.flat.device)
            loss = distillation_loss(pooled(encoder, ids, rows), teacher[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            if step % 100 == 0:
                print(f"tiny {step}/{steps} loss {loss.item():.4f} {time.time() - started:.0f}s", flush=True)
            if step % 500 == 0 or step == steps:
                with atomic_file(checkpoint) as temporary:
                    torch.save(
                        {"encoder": encoder.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, temporary
                    )
            if step >= steps:
                break
        epoch += 1
    return encoder.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--texts", type=int, default=900_000)
    parser.add_argument("--static-epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--long-share", type=float, default=0.2, help="of batches of long texts, how many are used")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--until", choices=["texts", "teacher", "tokenizer", "static", "tiny"], default="tiny")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    collect_texts(options.data, options.work, options.texts)
    if options.until == "texts":
        return
    tokenizer = make_tokenizer(options.work)
    if options.until == "tokenizer":
        return
    teach(options.work)
    if options.until == "teacher":
        return
    device = torch.device(options.device)
    ids, teacher = token_ids(options.work, tokenizer, device), targets(options.work).to(device)
    facts = read_json(options.work / "texts.json")
    static = train_static(options.work, ids, teacher, options.static_epochs)
    folder = new_folder(options.work / "m3e-static")
    write_static(folder, tokenizer, static.cpu().numpy())
    pack_with_card(folder, facts)
    if options.until == "static":
        return
    encoder = train_tiny(options.work, ids, teacher, static, options)
    facts |= {"steps": options.steps, "batch": options.batch}
    # distilled without, from more texts than it can learn by heart; whoever tunes it on few rows wants dropout
    encoder.config.hidden_dropout_prob = encoder.config.attention_probs_dropout_prob = 0.1
    folder = new_folder(options.work / "m3e-tiny")
    write_transformer(folder, encoder.cpu(), tokenizer, special_tokens=SPECIAL_TOKENS, max_length=POSITIONS)
    pack_with_card(folder, facts)


def new_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def pack_with_card(model: Path, facts: dict[str, Any]) -> None:
    sets = [f"- {part['name']} ({part['licence']}): {part['texts']:,} texts" for part in facts["sets"]]
    parts = [
        front_matter("apache-2.0", ["zh", "en"]),
        f"# {model.name}",
        usage("FOLDER", f"m3e models path {model.name} prints it"),
        f"## Training data\n\n{facts['texts']:,} texts of sets whose terms allow commercial use.\n\n" + "\n".join(sets),
    ]
    (model / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    pack(model, ASSETS / model.name)


if __name__ == "__main__":
    main()
