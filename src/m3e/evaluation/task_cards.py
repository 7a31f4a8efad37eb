"""The tasks that have local files or a recipe of ours, and the suites. Adding a task is adding a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from m3e.evaluation.local_files import Kind

UNIEM = "uniem"
"""The recipe of uniem's MTEB-zh, where it differs from mteb's task of the same name."""

T2RANKING = "t2ranking"
"""The folder of T2Ranking's own files inside a data folder."""

NLI_LABELS: Mapping[str, float | None] = {"entailment": 1.0, "contradiction": 0.0, "neutral": None}
"""C-MTEB's reading of NLI as pair classification: neutral pairs are left out."""


@dataclass(frozen=True)
class TaskCard:
    """A task and its local files, ``<files>.<split>.parquet``.

    Attributes:
        splits: of the files to score, in order of preference; the first is the official one.
        train: splits of the files to draw training rows from; the first is the official one.
        language: of the texts; ``cross`` where queries and documents have different ones.
        mteb: mteb's name of the task; ``None`` for a task of ours.
        complete: whether the local rows are all of the official ones.
        labels: the number of each label that is a word.
        experiments: draws of few-shot training rows; mteb's own number by default.
        recipe: the protocol, where mteb has a task of the same name with another.
        hub: the catalogue's set that says where a hub has the data.
        is_code: whether the documents are source code or commands.
        reverse: whether the second text of a pair file is the query.
        corpus: the set whose documents are searched, where it is another's.
        passages: of T2Ranking's, up to which number; ``None`` for all.
        on_request: whether the task runs only where it or its suite is named.
    """

    name: str
    kind: Kind
    files: str
    splits: tuple[str, ...]
    language: Literal["zh", "en", "cross"] = "zh"
    train: tuple[str, ...] = ()
    mteb: str | None = None
    complete: bool = True
    labels: Mapping[str, float | None] | None = None
    experiments: int | None = None
    recipe: str = ""
    hub: str | None = None
    is_code: bool = False
    reverse: bool = False
    corpus: str = ""
    passages: int | None = None
    on_request: bool = False

    @property
    def key(self) -> str:
        """By which the task is asked for: its name, with ``@recipe`` where the name alone means mteb's task."""
        return f"{self.name}@{self.recipe}" if self.recipe else self.name

    @property
    def stem(self) -> str:
        """What the file of the official split is called, less its ending."""
        return f"{self.files}/" if self.files == T2RANKING else f"{self.files}.{self.splits[0]}"

    @property
    def gathers(self) -> bool:
        """Whether it ranks documents for queries."""
        return self.kind in ("retrieval", "reranking")


def _mteb(name: str, kind: Kind, files: str, *splits: str, **options: object) -> TaskCard:
    return TaskCard(name, kind, files, splits, mteb=name, **options)  # type: ignore[arg-type]


def _uniem(
    name: str,
    files: str,
    split: str,
    *,
    train: tuple[str, ...] = ("train",),
    experiments: int = 10,
    recipe: str = "",
) -> TaskCard:
    """A classification task of uniem's MTEB-zh: 32 rows a label; ``recipe`` where mteb has one of that name."""
    return TaskCard(
        name,
        "classification",
        files,
        (split,),
        train=train,
        experiments=experiments,
        recipe=recipe,
        hub=name,
    )


def _t2(name: str, kind: Kind, passages: int | None = None, *, on_request: bool = True) -> TaskCard:
    return TaskCard(name, kind, T2RANKING, ("dev",), hub="T2RankingRetrieval", passages=passages, on_request=on_request)


def _code(name: str, files: str, *splits: str, **options: object) -> TaskCard:
    return TaskCard(name, "retrieval", files, splits, is_code=True, **options)  # type: ignore[arg-type]


def _both_ways(name: str, files: str, *splits: str) -> tuple[TaskCard, TaskCard]:
    """A file of Chinese texts and their English translations, asked from either side."""
    return (
        TaskCard(f"{name}-zh-en", "retrieval", files, splits, language="cross"),
        TaskCard(f"{name}-en-zh", "retrieval", files, splits, language="cross", reverse=True),
    )


_CHINESE = (
    _mteb("TNews", "classification", "tnews", "dev", train=("train",)),
    _mteb("IFlyTek", "classification", "iflytek", "dev", train=("train", "train_partial")),
    _mteb("MultilingualSentiment", "classification", "multilingual_sentiment_zh", "test", train=("train", "dev")),
    _mteb("OnlineShopping", "classification", "online_shopping", "test", train=("train",)),
    _mteb("ATEC", "sts", "atec", "test", "dev"),
    _mteb("BQ", "sts", "bq", "test", "dev"),
    _mteb("LCQMC", "sts", "lcqmc", "test", "dev"),
    _mteb("PAWSX", "sts", "pawsx_zh", "test", "dev"),
    _mteb("STSB", "sts", "stsb_zh", "test", "dev"),
    _mteb("AFQMC", "sts", "afqmc", "dev"),
    _mteb("QBQTC", "sts", "qbqtc", "test", "dev"),
    _mteb("Ocnli", "pair_classification", "ocnli", "dev", labels=NLI_LABELS),
    _mteb("Cmnli", "pair_classification", "cmnli", "dev", labels=NLI_LABELS),
    TaskCard("Cmrc2018", "retrieval", "cmrc2018_retrieval", ("test", "dev", "trial")),
    TaskCard("XQuADzh", "retrieval", "xquad_zh_retrieval", ("test",)),
    TaskCard("ChineseSquad", "retrieval", "chinese_squad_retrieval", ("test", "dev")),
    TaskCard("CSLTitleAbstract", "retrieval", "csl_title_abstract", ("test", "dev")),
    TaskCard("TiDBDocs", "retrieval", "tidb_docs_sections", ("test", "dev")),
    TaskCard("JavaGuide", "retrieval", "javaguide_sections", ("test", "dev")),
    TaskCard("OIWiki", "retrieval", "oiwiki_sections", ("test", "dev")),
    TaskCard("CSLCategoryClustering", "clustering", "csl_category", ("test", "dev")),
    TaskCard("CSLDisciplineClustering", "clustering", "csl_discipline", ("test", "dev")),
    TaskCard("THUCNewsTitleClustering", "clustering", "thucnews_title", ("test", "dev")),
)

_M3E_ZH = (
    _uniem("TNews", "tnews", "dev", experiments=5, recipe=UNIEM),
    _uniem("JDIphone", "jdiphone", "dev"),
    _uniem("GubaEastmoney", "gubaeastmoney", "test"),
    _uniem("TYQSentiment", "multilingual_sentiment_zh", "dev", train=("train", "test")),
    _uniem("StockComSentiment", "stockcomsentiment", "dev"),
    _uniem("IFlyTek", "iflytek", "dev", train=("train", "train_partial"), experiments=3, recipe=UNIEM),
    TaskCard("MedQQPairs", "pair_classification", "medqqpairs", ("train",), hub="MedQQPairs"),
    _t2("T2RReranking", "reranking"),
    _t2("T2RRetrieval-1W", "retrieval", 10_000, on_request=False),
    _t2("T2RRetrieval-10W", "retrieval", 100_000),
    _t2("T2RRetrieval-50W", "retrieval", 500_000),
    _t2("T2RRetrieval-full", "retrieval"),
)

_CODE = (
    _mteb("CosQA", "retrieval", "cosqa_retrieval", "test", "dev", language="en", complete=False, is_code=True),
    _code("ZhDocstringCode", "zh_docstring_code", "test", "dev"),
    _code("TldrZh", "tldr_zh", "test", "dev"),
    _code("TldrEn", "tldr_en", "test", "dev", language="en"),
    _code("LeetCodeZh", "leetcode_zh_code", "test", "dev"),
    _code("NCBJavaZh", "ncb_java_zh", "test"),
    _code("NCBJavaEn", "ncb_java_en", "test", language="en"),
    _code("NCBPythonZh", "ncb_python_zh", "test"),
    _code("NCBPythonEn", "ncb_python_en", "test", language="en"),
    _code("Concode", "concode", "test", "dev", language="en"),
    _code("CKBQASparql", "ckbqa_sparql", "test", "dev"),
)

_CROSS = (
    *_both_ways("InsuranceQA", "insuranceqa_zh_en", "test", "dev"),
    *_both_ways("LeetCode", "leetcode_zh_en", "test", "dev"),
    *_both_ways("MSDocs", "msdocs_zh_en", "test", "dev"),
    *_both_ways("Tatoeba", "tatoeba_zh_en", "test"),
    *_both_ways("Tldr", "tldr_zh_en", "test", "dev"),
    *_both_ways("XQuADQuestions", "xquad_zh_en_questions", "test"),
    TaskCard(
        "XQuAD-zh-en", "retrieval", "xquad_zh_retrieval", ("test",), language="cross", corpus="xquad_en_retrieval"
    ),
    TaskCard(
        "XQuAD-en-zh", "retrieval", "xquad_en_retrieval", ("test",), language="cross", corpus="xquad_zh_retrieval"
    ),
)

_ENGLISH = (
    TaskCard("XQuADen", "retrieval", "xquad_en_retrieval", ("test",), language="en"),
    _mteb("STSBenchmark", "sts", "stsb_en", "test", "dev", language="en"),
    _mteb("STS12", "sts", "sts12_en", "test", language="en", complete=False),
    _mteb("STS13", "sts", "sts13_en", "test", language="en"),
    _mteb("STS14", "sts", "sts14_en", "test", language="en"),
    _mteb("STS15", "sts", "sts15_en", "test", language="en"),
    _mteb("STS16", "sts", "sts16_en", "test", language="en"),
    _mteb("SICK-R", "sts", "sick_en", "test", "dev", language="en", complete=False),
)

CARDS: tuple[TaskCard, ...] = (*_CHINESE, *_M3E_ZH, *_CODE, *_CROSS, *_ENGLISH)

_CODE_OF_MTEB = (
    "CodeSearchNetRetrieval",
    "COIRCodeSearchNetRetrieval",
    "CodeSearchNetCCRetrieval",
    "AppsRetrieval",
    "CodeFeedbackMT",
    "CodeFeedbackST",
    "CodeTransOceanContest",
    "CodeTransOceanDL",
    "StackOverflowQA",
    "SyntheticText2SQL",
)
_ENGLISH_OF_MTEB = ("Banking77Classification", "SprintDuplicateQuestions", "NFCorpus", "SciFact")

SUITES: Mapping[str, tuple[str, ...]] = {
    "m3e-zh": tuple(card.key for card in _M3E_ZH),
    "code": (*(card.key for card in _CODE), *_CODE_OF_MTEB),
    "en": (*(card.key for card in (_CODE[0], *_ENGLISH)), *_ENGLISH_OF_MTEB),
    "cross": tuple(card.key for card in _CROSS),
    "zh": tuple(card.key for card in _CHINESE),
    "retrieval": tuple(card.key for card in CARDS if card.kind == "retrieval" and card.files != T2RANKING),
}
"""The keys of each suite's tasks; ``code`` and ``en`` have tasks of mteb beside ours."""
