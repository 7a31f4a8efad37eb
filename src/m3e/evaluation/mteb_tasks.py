"""mteb's task objects, filled with local rows.

mteb's own classes do the sampling, the scoring and the metrics; only the loading is ours: a task
that holds its data is not loaded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from m3e.errors import DataError
from m3e.evaluation.local_collections import Collection
from m3e.evaluation.local_files import Kind, Pairs, Texts

SAMPLES_PER_LABEL = 32
"""Training rows drawn a label for classification sets of users, as in every C-MTEB task (mteb's default is 8)."""

EXPERIMENTS = 10
"""Draws of training rows, mteb's default and uniem's."""

_TYPES: dict[Kind, tuple[str, str, str, str]] = {
    "classification": ("AbsTaskClassification", "Classification", "t2c", "accuracy"),
    "sts": ("AbsTaskSTS", "STS", "t2t", "cosine_spearman"),
    "pair_classification": ("AbsTaskPairClassification", "PairClassification", "t2t", "max_ap"),
    "retrieval": ("AbsTaskRetrieval", "Retrieval", "t2t", "ndcg_at_10"),
    "reranking": ("AbsTaskRetrieval", "Reranking", "t2t", "map_at_1000"),
    "clustering": ("AbsTaskClustering", "Clustering", "t2c", "v_measure"),
}

CLUSTERED_AT_MOST = 2048
"""Texts drawn of a clustering set, as mteb's versions 2 of C-MTEB's clustering do."""

_LANGUAGES = {"zh": ["cmn-Hans"], "en": ["eng-Latn"], "cross": ["cmn-Hans", "eng-Latn"]}


def own_task(
    name: str,
    kind: Kind,
    split: str,
    revision: str,
    *,
    language: str = "zh",
    is_code: bool = False,
    experiments: int | None = None,
    base: type[Any] | None = None,
) -> Any:
    """An mteb task of ours without data: mteb's class for ``kind`` with its usual metric.

    Args:
        name: of the task.
        kind: of the task.
        split: the only one.
        revision: of the data.
        language: ``zh``, ``en`` or ``cross``.
        is_code: whether documents are source code.
        experiments: draws of training rows for classification; ten by default.
        base: a subclass of mteb's class to take instead of that.
    """
    import mteb.abstasks
    from mteb.abstasks.task_metadata import TaskMetadata

    class_name, task_type, category, metric = _TYPES[kind]
    metadata = TaskMetadata(
        name=name,
        description=f"Local files {name}",
        dataset={"path": f"local/{name}", "revision": revision},
        type=task_type,
        category=category,
        eval_splits=[split],
        eval_langs=_LANGUAGES[language],
        domains=["Programming"] if is_code else None,
        main_score=metric,
    )
    attributes: dict[str, Any] = {"metadata": metadata, "__doc__": metadata.description}
    if kind == "classification":
        attributes["samples_per_label"] = SAMPLES_PER_LABEL
        attributes["n_experiments"] = experiments or EXPERIMENTS
    if kind == "clustering":
        attributes |= {"max_fraction_of_documents_to_embed": None, "max_document_to_embed": CLUSTERED_AT_MOST}
    return type("LocalTask", (base or getattr(mteb.abstasks, class_name),), attributes)()


def mteb_split(task: Any, split: str) -> str:
    """The name that mteb gives a local split: its validation is what the files call dev."""
    known = task.metadata.eval_splits
    return "validation" if split == "dev" and "dev" not in known and "validation" in known else split


def fill_classification(task: Any, split: str, rows: Texts, train: Texts) -> None:
    """Give a classification task its rows; labels become integers in the order of their names.

    Raises:
        DataError: there is only one label to learn.
    """
    from datasets import Dataset, DatasetDict

    if len(set(train.labels)) < 2:
        raise DataError(f"{task.metadata.name}: the training rows hold only the label {train.labels[0]!r}")
    number = {label: index for index, label in enumerate(_in_order({*rows.labels, *train.labels}))}

    def dataset(part: Texts) -> Any:
        return Dataset.from_dict({"text": part.texts, "label": [number[label] for label in part.labels]})

    _hold(task, split, DatasetDict({task.train_split: dataset(train), split: dataset(rows)}))


def fill_clustering(task: Any, split: str, rows: Texts) -> None:
    """Give a clustering task its texts.

    Raises:
        DataError: there is only one label.
    """
    from datasets import Dataset, DatasetDict

    if len(set(rows.labels)) < 2:
        raise DataError(f"{task.metadata.name}: every label is {rows.labels[0]!r}; clustering needs at least two")
    _hold(task, split, DatasetDict({split: Dataset.from_dict({"sentences": rows.texts, "labels": rows.labels})}))


def fill_pairs(task: Any, kind: Kind, split: str, rows: Pairs) -> None:
    """Give an STS or pair classification task its rows.

    Raises:
        DataError: the labels leave nothing to measure, or are not 0 and 1 where they must be.
    """
    from datasets import Dataset, DatasetDict

    name = task.metadata.name
    found = set(rows.labels)
    if kind == "pair_classification" and not found <= {0.0, 1.0}:
        odd = next(label for label in rows.labels if label not in (0.0, 1.0))
        raise DataError(f"{name}: pair classification needs labels 0 and 1, not {odd:g}")
    if len(found) < 2:
        raise DataError(f"{name}: every label is {rows.labels[0]:g}; a score needs at least two different labels")
    column: dict[str, Sequence[float]] = (
        {"score": rows.labels} if kind == "sts" else {"labels": [int(label) for label in rows.labels]}
    )
    pairs = {"sentence1": rows.sentence1, "sentence2": rows.sentence2, **column}
    _hold(task, split, DatasetDict({split: Dataset.from_dict(pairs)}))


def fill_retrieval(task: Any, split: str, data: Collection) -> None:
    """Give a retrieval or reranking task its documents, queries and judgements."""
    from datasets import Dataset

    corpus = {
        "id": list(data.corpus),
        "title": [title for title, _ in data.corpus.values()],
        "text": [text for _, text in data.corpus.values()],
    }
    if not any(corpus["title"]):
        del corpus["title"]
    queries = {"id": list(data.queries), "text": list(data.queries.values())}
    hold_retrieval(task, split, Dataset.from_dict(corpus), Dataset.from_dict(queries), data.relevant, data.candidates)


def hold_retrieval(
    task: Any,
    split: str,
    corpus: Any,
    queries: Any,
    relevant: Mapping[str, Mapping[str, int]],
    candidates: Mapping[str, Sequence[str]] | None,
) -> None:
    """Give a retrieval or reranking task its data sets (id, text), judgements and candidates."""
    rows = {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": candidates}
    task.ignore_identical_ids = False
    _hold(task, split, {"default": {split: rows}})


def _hold(task: Any, split: str, dataset: Any) -> None:
    task.filter_eval_splits([split])
    task.dataset = dataset
    task.data_loaded = True


def _in_order(labels: Iterable[str]) -> list[str]:
    """Labels by number where all are numbers, else by name."""
    names = sorted(labels)
    return sorted(names, key=int) if all(name.lstrip("-").isdecimal() for name in names) else names
