"""What to evaluate: names to mteb tasks that hold their data, and reasons for those that cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m3e.catalogue.local import TRAINING_SPLITS
from m3e.errors import DataError, SettingsError, first_line
from m3e.evaluation import hub_sets, t2ranking
from m3e.evaluation.local_files import Kind, LocalFolder, kind_of_file
from m3e.evaluation.local_tasks import Files, add_local_task, fill_task
from m3e.evaluation.planned import Plan, Planned, some
from m3e.evaluation.task_cards import CARDS, T2RANKING, TaskCard
from m3e.evaluation.tasks import (
    LOCAL_SUITE,
    card_of,
    check_names,
    did_you_mean,
    find_split,
    mteb_card,
    suite_tasks,
)

_TOLD_SUITES = ("m3e-zh", "c-mteb", "code", "en", "cross")


def plan(tasks: Sequence[str] | None, suite: str | None, data: Path | None, train: Path | None) -> Plan:
    """Everything to run, its data read and checked.

    Raises:
        SettingsError: an unknown name, or nothing to evaluate.
        DataError: local files that cannot be used.
    """
    folder = LocalFolder.open(data) if data is not None else None
    if train is not None and suite != LOCAL_SUITE:
        raise SettingsError("training rows of your own go with suite local; mteb's tasks have their own")
    if suite == LOCAL_SUITE:
        return _plan_local(_needed(folder), list(tasks) if tasks else None, train)
    if isinstance(tasks, str):
        raise SettingsError(f"tasks takes a list of names; write [{tasks!r}]")
    if tasks is None and suite is None:
        return _plan_found(folder)
    names = [*(tasks or ()), *(suite_tasks(suite) if suite else ())]
    if not names:
        raise SettingsError("nothing to evaluate: the list of tasks is empty")
    check_names(names, [] if folder is None else [f"{name}.{split}" for name, split in folder.splits()])
    return _plan_named(list(dict.fromkeys(names)), folder)


def _needed(folder: LocalFolder | None) -> LocalFolder:
    if folder is None:
        raise SettingsError("suite local evaluates the files of a folder; name it with --data")
    return folder


def _plan_found(folder: LocalFolder | None) -> Plan:
    """Every task whose files are in the folder; the others of our suites are missing, by name."""
    if folder is None:
        raise SettingsError("nothing to evaluate: name tasks, a suite or a data folder")
    here = [card for card in CARDS if _is_here(card, folder)]
    found = [card.key for card in here if not card.on_request]
    found += [name for name in _mteb_names(folder) if name not in found]
    if not found:
        expected = ", ".join(card.stem for card in CARDS[:3])
        raise SettingsError(
            f"{folder.path} holds the files of no known task ({expected}, …); for files of your own use suite local"
        )
    made = _plan_named(found, folder)
    asked_for = [card.key for card in here if card.on_request]
    made.missing |= dict.fromkeys(asked_for, "here, but large: it runs where --task names it")
    known = dict.fromkeys(name for suite in _TOLD_SUITES for name in suite_tasks(suite))
    made.missing |= {name: _why_not_here(name, folder) for name in known if name not in {*found, *asked_for}}
    return made


def _why_not_here(name: str, folder: LocalFolder) -> str:
    """Why a task that nobody named is not run, and how to get it; the same words for all of a kind."""
    card = card_of(name)
    if card is not None and card.mteb is None and card.hub is None:
        return f"not in {folder.path}, and on no hub; docs/evaluation.md lists the files to put there"
    local = card is not None or mteb_card(name) is not None
    files = " (docs/evaluation.md lists the files)" if local else ""
    return (
        f"not in {folder.path}{files}; named with --task or --suite it is loaded from the hub, "
        "of which HF_ENDPOINT names a mirror"
    )


def _is_here(card: TaskCard, folder: LocalFolder) -> bool:
    if card.files == T2RANKING:
        return not t2ranking.missing_files(folder.path / T2RANKING)
    return find_split(card, folder) is not None


def _mteb_names(folder: LocalFolder) -> list[str]:
    """Sets of the folder that bear the name of an mteb task that has no card of ours."""
    carded = {card.files for card in CARDS}
    names = dict.fromkeys(name for name, _ in folder.splits() if name not in carded and name != name.lower())
    found = []
    for name in names:
        try:
            card = mteb_card(name)
        except KeyError:
            continue
        if card is not None and find_split(card, folder) is not None:
            found.append(name)
    return found


def _plan_named(names: list[str], folder: LocalFolder | None) -> Plan:
    made = Plan()
    hub = _Hub()
    for name in names:
        card = card_of(name) or mteb_card(name)
        reason = _add_local(made, card, folder) if card is not None else "it has no local files"
        if reason and (unreached := hub.add(made, name, card)):
            made.missing[card.name if card is not None else name] = f"{reason}, and {unreached}"
    return made


def _add_local(made: Plan, card: TaskCard, folder: LocalFolder | None) -> str:
    """Add a task from local files; or say why it cannot be."""
    if folder is None:
        return "no data folder was given"
    if card.files == T2RANKING:
        return t2ranking.add_task(made, card, folder.path / T2RANKING)
    return add_local_task(made, card, folder)


def _plan_local(folder: LocalFolder, wanted: list[str] | None, train: Path | None) -> Plan:
    """Every set of the folder with an evaluation split, or those of ``wanted``."""
    found = {
        f"{name}.{split}": (name, split)
        for name, split in folder.splits()
        if split not in TRAINING_SPLITS and not name.endswith("_unlabelled")
    }
    for name in wanted or ():
        if name not in found:
            known = ", ".join(found) or "none"
            raise SettingsError(f"there is no set {name!r} in {folder.path}{did_you_mean(name, found)}; sets: {known}")
    kinds = {name: _local_kind(folder, found[name]) for name in wanted or found}
    unfit = [name for name, kind in kinds.items() if kind is None]
    made = Plan()
    for name, kind in kinds.items():
        if kind is not None:
            _add_own(made, name, kind, found[name], folder, train)
    if wanted:
        made.missing |= dict.fromkeys(unfit, "its columns or labels fit no kind of task")
    elif unfit:
        made.notes.append(f"skipped, their columns or labels fit no kind of task: {some(unfit)}")
    if not made.tasks and not made.missing:
        raise SettingsError(f"{folder.path} holds no evaluation set, {'; '.join(made.notes) or 'no file at all'}")
    return made


def _add_own(
    made: Plan, name: str, kind: Kind, source: tuple[str, str], folder: LocalFolder, train: Path | None
) -> None:
    """Add a set of the user's own."""
    single, parts = folder.single(*source), folder.collection(*source)
    if kind == "reranking" and (parts is None or "candidates" not in parts):
        made.missing[name] = (
            "reranking needs its .corpus, .queries, .qrels and .candidates files, and not all are there"
        )
        return
    if kind == "retrieval" and parts is None and single is None:
        made.missing[name] = "retrieval needs its .corpus, .queries and .qrels files, and not all are there"
        return
    if kind not in ("retrieval", "reranking") and single is None:
        made.missing[name] = f"{kind} needs its single file, {name}.parquet, which is not there"
        return
    if kind == "classification":
        train = train or folder.single(source[0], "train")
        if train is None:
            made.missing[name] = f"no training rows: name a file with --train, or add {source[0]}.train.parquet"
            return
    card = TaskCard(name, kind, source[0], (source[1],))
    files = Files(source[1], single, parts if card.gathers else None, train if kind == "classification" else None)
    made.tasks.append(fill_task(card, files, made.notes))


def _local_kind(folder: LocalFolder, source: tuple[str, str]) -> Kind | None:
    declared = folder.declared_kind(source[0])
    single = folder.single(*source)
    if declared is not None:
        return declared
    if single is not None:
        return kind_of_file(single)
    parts = folder.collection(*source)
    return "reranking" if parts is not None and "candidates" in parts else "retrieval"


class _Hub:
    """Tasks whose data comes from the hub, which is asked for once."""

    def __init__(self) -> None:
        self.reachable: bool | None = None

    def add(self, made: Plan, name: str, card: TaskCard | None) -> str:
        """Add a task with its data from the hub; or say why it cannot be, and what to do."""
        if card is not None and card.mteb is None and card.hub is None:
            return "it is a task of local files only: put them there"
        from m3e.models.loading import hub_endpoint, hub_is_reachable

        if self.reachable is None:
            self.reachable = hub_is_reachable()
        if card is not None and card.hub is not None:
            return self._add_from_catalogue(made, card)
        if not self.reachable:
            advice = "" if card is None else ", or put its files there as docs/evaluation.md says"
            return f"the hub {hub_endpoint()} cannot be reached: set HF_ENDPOINT to a mirror{advice}"
        import mteb

        task = mteb.get_task(name)
        splits = list(task.metadata.eval_splits)
        split = "test" if "test" in splits else splits[0]
        task.filter_eval_splits([split])
        made.tasks.append(Planned(name, task, split, True))
        return ""

    def _add_from_catalogue(self, made: Plan, card: TaskCard) -> str:
        from m3e.models.loading import hub_endpoint

        if not self.reachable and not hub_sets.is_kept(card):
            return (
                f"the hub {hub_endpoint()} cannot be reached for {hub_sets.place(card)}: set HF_ENDPOINT to a mirror, "
                f"or put {hub_sets.wanted_files(card)} there"
            )
        try:
            folder = hub_sets.fetch_set(card)
        except DataError as error:
            return f"loading from the hub failed: {first_line(error)}"
        if card.files == T2RANKING:
            return t2ranking.add_task(made, card, folder)
        return add_local_task(made, card, LocalFolder.open(folder))
