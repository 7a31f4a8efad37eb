"""The model card that a run writes: what went in, by which recipe, what came out, and what may be done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from m3e.data.bloom import FILE_NAME
from m3e.data.manifest import MANIFEST, commercial_use, read_manifest
from m3e.files import atomic_file
from m3e.machine import machine
from m3e.models import licences
from m3e.models.card import front_matter, usage
from m3e.training.recipe import SCRATCH, Recipe
from m3e.training.stages.stage import Ingredient, StageReport

if TYPE_CHECKING:
    from m3e.training.run_report import RunReport

CURVE = "loss.svg"
WATTS_A_CPU, WATTS_A_GPU = 65, 700
"""What a processor under load draws, roughly: a desktop's package, a data centre's card."""

_WIDTH, _HEIGHT, _EDGE = 640, 200, 44
_COLOURS = ("#2563eb", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0f766e")


def own_licence(recipe: Recipe, manifest: Mapping[str, Any], ingredients: Sequence[Ingredient]) -> tuple[str, str]:
    """The licence that a model may be given, and whether it may be used commercially.

    The recipe's own licence stands only where the terms of every data set, base and teacher say ``yes``; anything
    unknown or forbidden leaves ``other``.
    """
    terms = licences.strictest([commercial_use(manifest), *(each.commercial for each in ingredients)])
    return (recipe.output.licence if terms == "yes" else "other"), terms


def write_card(recipe: Recipe, report: RunReport) -> None:
    """Write ``README.md`` and the picture of the losses into the run's model folder."""
    curves = {name: stage.losses for name, stage in report.stages.items() if len(stage.losses) > 1}
    if curves:
        (report.model / CURVE).write_text(loss_curves(curves), encoding="utf-8")
    manifest = read_manifest(report.model) if (report.model / MANIFEST).is_file() else {"datasets": []}
    base = None if recipe.base.model == SCRATCH else recipe.base.model
    parts = [
        front_matter(report.licence, list(recipe.output.languages), base),
        f"# {recipe.title}",
        recipe.about,
        usage("FOLDER", "this one"),
        _licence_section(report, manifest),
        _figures_section(report.results, report.missing),
        _stages_section(report.stages, bool(curves)),
        _data_section(manifest, report.stages),
        _hardware_section(report),
        _recipe_section(recipe),
        _CITATION,
    ]
    with atomic_file(report.model / "README.md") as temporary:
        temporary.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


_CITATION = """## Citation

Made with m3e. If you use this model, please cite m3e, the data sets above and the base model."""


def _licence_section(report: RunReport, manifest: Mapping[str, Any]) -> str:
    allowed = {
        "yes": f"The terms of all that went into this model allow commercial use; its own licence is {report.licence}.",
        "no": "Something that went into this model forbids commercial use, so the model is for research only.",
        "unknown": "The terms of something that went into this model are not known, so no right to commercial use is "
        "claimed.",
    }[report.commercial]
    lines = [
        f"| {each.role} | {each.name} | {each.licence or 'not stated'} | {each.commercial} |"
        for each in report.ingredients
    ]
    rows = list(dict.fromkeys(lines))  # a teacher of several stages is one line
    by_terms: dict[tuple[str, str], list[str]] = {}
    for entry in manifest["datasets"]:
        if entry["rows_out"]:
            terms = _cell(entry.get("licence") or "not stated"), entry.get("commercial", "unknown")
            by_terms.setdefault(terms, []).append(entry["dataset"])
    rows += [
        f"| data set{'s' if len(names) > 1 else ''} | {', '.join(names)} | {licence} | {commercial} |"
        for (licence, commercial), names in by_terms.items()
    ]
    return "\n".join(
        ["## Licence", "", allowed, "", "| what | name | licence | commercial use |", "|---|---|---|---|", *rows]
    )


def _figures_section(results: Sequence[Mapping[str, Any]], missing: Mapping[str, str]) -> str:
    lines = ["## Figures", ""]
    if not any(result["results"] for result in results):
        lines.append("Not judged yet: `m3e eval` does.")
    else:
        models = [str(result["model"]) for result in results]
        tasks = list(dict.fromkeys(score["task"] for result in results for score in result["results"]))
        lines += [
            "| task | metric | " + " | ".join(models) + " |",
            "|---|---|" + "---:|" * len(models),
            *(_figure_row(task, results) for task in tasks),
            "",
            "In brackets: 95 % bootstrap intervals.",
        ]
    if missing:
        lines += ["", f"Not judged on {', '.join(missing)}: {next(iter(missing.values()))}."]
    return "\n".join(lines)


def _figure_row(task: str, results: Sequence[Mapping[str, Any]]) -> str:
    cells, metric = [], ""
    for result in results:
        score = next((score for score in result["results"] if score["task"] == task), None)
        if score is None:
            cells.append("–")
            continue
        metric = f"{score['metric']} ({score['split']})"
        interval = score["ci95"]
        cells.append(f"{score['score']:.4f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""))
    return f"| {task} | {metric} | " + " | ".join(cells) + " |"


def _stages_section(stages: Mapping[str, StageReport], curve: bool) -> str:
    lines = ["## Training", ""]
    for name, stage in stages.items():
        facts = ", ".join(f"{key} {value}" for key, value in stage.facts.items() if not isinstance(value, dict))
        did = f"{stage.steps:,} steps, {stage.rows:,} rows, {stage.tokens:,} tokens; " if stage.steps else ""
        lines.append(f"- **{name}**: {did}{stage.seconds:,.0f} s" + (f"; {facts}" if facts else ""))
    return "\n".join([*lines, *(["", f"![losses]({CURVE})"] if curve else [])])


def _data_section(manifest: Mapping[str, Any], stages: Mapping[str, StageReport]) -> str:
    entries = [entry for entry in manifest["datasets"] if entry["rows_out"]]
    if not entries:
        return ""
    drawn: dict[str, int] = {}
    for stage in stages.values():
        for name, rows in stage.sets.items():
            if rows:
                drawn[name] = drawn.get(name, 0) + rows
    lines = [
        "## Data",
        "",
        "| data set | kind | rows | dropped | drawn in training |",
        "|---|---|---:|---:|---:|",
        *(
            f"| {entry['dataset']} | {entry['kind']} | {entry['rows_out']:,} "
            f"| {sum(entry.get('dropped', {}).values()):,} | {drawn[entry['dataset']]:,} |"
            for entry in entries
            if entry["dataset"] in drawn
        ),
    ]
    others = [entry["dataset"] for entry in entries if entry["dataset"] not in drawn]
    if others:
        lines += ["", f"Nothing of these was drawn in this run: {', '.join(others)}."]
    against = manifest.get("evaluation") or []
    if against:
        lines += ["", f"Rows that match a text of {len(against)} evaluation files were left out before training."]
    lines += ["", f"`{MANIFEST}` has every rule's count; `{FILE_NAME}` can say whether a text was trained on."]
    return "\n".join(lines)


def _hardware_section(report: RunReport) -> str:
    import torch

    here = machine()
    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else f"{here.cpu} ({here.threads} threads, bf16 {here.bf16})"
    seconds = sum(stage.seconds for stage in report.stages.values())
    watts = WATTS_A_GPU if on_gpu else WATTS_A_CPU
    return (
        f"## Cost\n\n{seconds / 3600:.2f} hours on {device}; about {seconds * watts / 3.6e6:.3f} kWh, estimated at "
        f"{watts} W."
    )


def _recipe_section(recipe: Recipe) -> str:
    stages = ", ".join(recipe.stage_names)
    return (
        f"## Recipe\n\nStages: {stages}; seed {recipe.seed}; policy {recipe.policy}. The whole recipe is in "
        "`recipe.json`."
    )


def loss_curves(curves: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """An SVG picture of each stage's loss over its steps, each in the range of its own values."""
    lines, names = [], []
    for number, (name, points) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        steps, values = [point[0] for point in points], [point[1] for point in points]
        low, high = min(values), max(values)
        places = " ".join(
            f"{_EDGE + (step - steps[0]) / max(1e-9, steps[-1] - steps[0]) * (_WIDTH - 2 * _EDGE):.1f},"
            f"{_HEIGHT - 24 - (value - low) / max(1e-9, high - low) * (_HEIGHT - 60):.1f}"
            for step, value in zip(steps, values, strict=True)
        )
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{places}"/>')
        names.append(
            f'<text x="{_EDGE + number * 180}" y="16" fill="{colour}">{_escape(name)}: {values[0]:.3g} to '
            f"{values[-1]:.3g}</text>"
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>'
        f'<path d="M{_EDGE} 28V{_HEIGHT - 20}H{_WIDTH - _EDGE}" fill="none" stroke="#9ca3af"/>'
        f"{''.join(names)}{''.join(lines)}"
        f'<text x="{_WIDTH - _EDGE}" y="{_HEIGHT - 6}" text-anchor="end" fill="#6b7280">steps</text></svg>\n'
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
