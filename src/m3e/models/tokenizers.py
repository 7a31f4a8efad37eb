"""Tokenizers trained on text: Unigram and WordPiece for Chinese, English and code.

Chinese characters stand apart from Latin words. Code keeps what matters in it: line breaks and indentation are pieces,
operators are one piece each, digits stand one by one, and ``camelCase`` is cut at its humps, lower-cased or not. The
6,763 characters of GB 2312 are always known. Unigram falls back to bytes, so it knows everything; a character that
WordPiece does not know is one unknown token and takes no neighbour with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from m3e.errors import SettingsError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TokenizerKind = Literal["unigram", "wordpiece"]

SPECIAL_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "mask_token": "<mask>",
}
"""By their transformers names; a trained tokenizer has them as its first ids, in this order."""

OPERATORS = (
    *("<=>", "===", "!==", "...", "**=", "//=", ">>=", "<<=", "->", "=>", "==", "!=", "<=", ">=", "&&", "||", "::"),
    *(":=", "++", "--", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "**", "//", "/*", "*/", "<<", ">>", "??", "?."),
)
"""Of two or more characters, longest first."""

INDENTS = ("  ", "    ", "        ")

_BLANKS = ("\n", "\t", " ")
_HUMP = "\ue000"
"""Marks the humps of camelCase while lower-casing takes their capitals; a private-use character, never a piece."""

_CONTINUES = "##"
_LONGEST_PIECE = 12
_LEAST_OF_A_CHARACTER = 3
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def train_tokenizer(
    texts: Sequence[str], *, kind: TokenizerKind = "unigram", vocabulary: int = 27_000, lower_case: bool = True
) -> Tokenizer:
    """A tokenizer of at most ``vocabulary`` pieces, fewer where ``texts`` yield no more.

    Args:
        kind: ``unigram`` has pieces of several Chinese characters and falls back to bytes; ``wordpiece`` has every
            Chinese character alone, as BERT's Chinese vocabularies do.
        lower_case: lower-case letters.

    Raises:
        SettingsError: there is no text, or ``vocabulary`` has no room for more than characters, operators and bytes.
    """
    if not any(text.strip() for text in texts):
        raise SettingsError("there is no text to train a tokenizer on")
    fixed = fixed_pieces(kind, lower_case=lower_case)
    room = vocabulary - len(SPECIAL_TOKENS) - len(fixed)
    if room < 1:
        raise SettingsError(
            f"a vocabulary of {vocabulary:,} has no room for words: special tokens, the characters of GB 2312, "
            f"operators and bytes alone are {len(SPECIAL_TOKENS) + len(fixed):,}; set a larger vocabulary"
        )
    characters = _more_characters(texts, fixed, room // 2)
    tokenizer = _empty(kind, lower_case)
    known = {*characters, *(piece for piece in fixed if len(piece) == 1)}
    trainable = _without_other_characters(texts, known)
    # trained with only the special tokens' and single characters' places taken; longer fixed pieces are added after
    longer = [piece for piece in fixed if len(piece) > 1]
    trainer = _trainer(kind, vocabulary - len(longer), sorted(known))
    tokenizer.train_from_iterator(trainable, trainer, length=len(texts))
    tokenizer.model = _with_fixed_pieces(tokenizer, kind, longer)
    return tokenizer


def fixed_pieces(kind: TokenizerKind, *, lower_case: bool = True) -> list[str]:
    """The pieces that a tokenizer has whatever it is trained on: characters, operators, indents, bytes or suffixes."""
    ascii_characters = [chr(code) for code in range(33, 127) if not (lower_case and chr(code).isupper())]
    pieces = [*gb2312(), *ascii_characters, *_BLANKS, *OPERATORS, *INDENTS]
    if kind == "unigram":
        return [*pieces, *_BYTES]
    letters = [char for char in ascii_characters if char.isalpha()]
    return [*pieces, *(_CONTINUES + piece for piece in (*letters, " ", *INDENTS))]


def gb2312() -> list[str]:
    """The 6,763 common characters of GB 2312."""
    codes = (bytes([high, low]) for high in range(0xB0, 0xF8) for low in range(0xA1, 0xFF))
    decoded = (code.decode("gb2312", errors="ignore") for code in codes)
    return [char for char in decoded if char]


def unknown_share(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[float, float]:
    """Of the texts' tokens, the share that is unknown, and the share that is single bytes, both 0..1."""
    counts: Counter[str] = Counter()
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        counts.update(encoding.tokens)
    total = max(1, counts.total())
    return counts[SPECIAL_TOKENS["unk_token"]] / total, sum(counts[piece] for piece in _BYTES) / total


def _more_characters(texts: Iterable[str], fixed: Sequence[str], most: int) -> list[str]:
    """The commonest characters of the texts beside the fixed ones: full-width forms, traditional characters, kana."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    for char in (*fixed, _HUMP):
        counts.pop(char, None)
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [char for char, count in common if count >= _LEAST_OF_A_CHARACTER and char.isprintable()][:most]


def _without_other_characters(texts: Iterable[str], known: set[str]) -> Iterable[str]:
    """The texts with a space for each character that shall have no piece."""

    class Table(dict[int, int]):
        def __missing__(self, code: int) -> int:
            # capitals are known by their small letters where those are all there is
            self[code] = code if {chr(code), chr(code).lower()} & known else ord(" ")
            return self[code]

    table = Table()
    return (text.translate(table) for text in texts)


def _empty(kind: TokenizerKind, lower_case: bool) -> Tokenizer:
    """The tokenizer's parts around its vocabulary."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    unknown = SPECIAL_TOKENS["unk_token"]
    tokenizer = Tokenizer(models.Unigram() if kind == "unigram" else models.WordPiece(unk_token=unknown))
    steps = [
        normalizers.NFKC(),
        normalizers.Replace(Regex(r"[\p{Cf}\p{Cc}&&[^\t\n\r\x{85}\x{200D}]]"), ""),
        # blank lines and blanks at the ends of lines say nothing; between words one space says as much as two
        normalizers.Replace(Regex(r"\s*[\n\r\x{85}\x{2028}\x{2029}]"), "\n"),
        normalizers.Replace(Regex(r"(?<=\S)[^\S\n]+(?=\S)"), " "),
        normalizers.Strip(),
    ]
    if lower_case:
        humps = r"(?<=\p{Ll})(?=\p{Lu})|(?<=\p{Lu})(?=\p{Lu}\p{Ll})"
        steps += [normalizers.Replace(Regex(humps), _HUMP), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"{_HUMP}|(?<=\S) (?=\S)"), "removed"),
            pre_tokenizers.Split(Regex(_words(kind)), "isolated"),
        ]
    )
    first, last = SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]
    ids = {token: index for index, token in enumerate(SPECIAL_TOKENS.values())}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(first, ids[first]), (last, ids[last])],
    )
    unigram_decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.decoder = unigram_decoder if kind == "unigram" else decoders.WordPiece(_CONTINUES)
    return tokenizer


def _words(kind: TokenizerKind) -> str:
    """A regular expression of what stands alone before pieces are looked for."""
    operators = "|".join("".join(rf"\x{{{ord(char):X}}}" for char in operator) for operator in OPERATORS)
    if kind == "unigram":
        words = [r"\p{Han}+", r"\p{Lu}+(?!\p{Ll})", r"\p{Lu}?[\p{Ll}\p{M}]+", r"[\p{L}\p{M}]+"]
    else:  # each letter that has no suffix form stands alone, so that an unknown one is alone in being unknown
        words = ["[A-Z]+(?![a-z])", "[A-Z]?[a-z]+"]
    return "|".join([*words, operators, " +", r"(?m:.)"])


def _trainer(kind: TokenizerKind, size: int, alphabet: list[str]) -> Any:
    from tokenizers import trainers

    special = list(SPECIAL_TOKENS.values())
    if kind == "unigram":
        return trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=special,
            unk_token=SPECIAL_TOKENS["unk_token"],
            initial_alphabet=alphabet,
            max_piece_length=_LONGEST_PIECE,
            shrinking_factor=0.8,
            show_progress=False,
        )
    return trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet) + len(special),
        continuing_subword_prefix=_CONTINUES,
        show_progress=False,
    )


def _with_fixed_pieces(tokenizer: Tokenizer, kind: TokenizerKind, longer: Sequence[str]) -> Any:
    """The learned vocabulary with the fixed pieces that it lacks."""
    from tokenizers import models

    learned = json.loads(tokenizer.to_str())["model"]["vocab"]
    if kind == "wordpiece":
        places = dict(learned)
        for piece in longer:
            places.setdefault(piece, len(places))
        return models.WordPiece(
            places,
            unk_token=SPECIAL_TOKENS["unk_token"],
            continuing_subword_prefix=_CONTINUES,
            max_input_chars_per_word=200,
        )
    scores: dict[str, float] = dict(learned)
    floor = min(scores.values())
    missing = [piece for piece in longer if piece not in scores]
    for piece in missing:
        # as likely as its rarest character, which is likelier than its characters one by one
        scores[piece] = floor - 10 if piece in _BYTES else min(scores.get(char, floor) for char in piece)
    unknown = list(SPECIAL_TOKENS).index("unk_token")
    return models.Unigram(list(scores.items()), unk_id=unknown, byte_fallback=True)
