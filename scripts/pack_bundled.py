"""Put a model into the package, in 8 bits a number.

    python scripts/pack_bundled.py runs/m3e-tiny/model m3e-tiny

The model is what ``m3e train`` wrote: its card, recipe, manifest and filter of texts come along.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from m3e.models.bundled import ASSETS, pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="its folder")
    parser.add_argument("name", help="under which it ships")
    options = parser.parse_args()
    target = ASSETS / options.name
    pack(options.model, target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
