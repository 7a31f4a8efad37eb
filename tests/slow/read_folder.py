"""Run by a Python of any stack: load a model folder with plain sentence-transformers, write what it gives.

Usage: read_folder.py FOLDER TEXTS.json OUT.npz
"""

import json
import sys
from pathlib import Path


def main(folder: str, texts_file: str, out: str) -> None:
    sys.modules["m3e"] = None  # an import of it fails from here on
    import numpy as np
    import sentence_transformers
    import transformers

    texts = json.loads(Path(texts_file).read_text("utf-8"))
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    tokenizer = model.tokenizer
    if hasattr(tokenizer, "encode_batch"):  # a static model's, of the library tokenizers
        ids = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    else:
        ids = tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    prompts = {name: prompt for name, prompt in (model.prompts or {}).items() if prompt}
    np.savez(
        out,
        versions=np.array([sentence_transformers.__version__, transformers.__version__]),
        ids=np.array([token for row in ids for token in row]),
        lengths=np.array([len(row) for row in ids]),
        plain=model.encode(texts),
        query=model.encode_query(texts),
        document=model.encode_document(texts),
        prompts=np.array(json.dumps(prompts, sort_keys=True)),
        similarity=np.array(str(model.similarity_fn_name)),
        max_length=np.array(-1 if model.max_seq_length is None else model.max_seq_length),
        **{f"prompt_{name}": model.encode(texts, prompt_name=name) for name in prompts},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
