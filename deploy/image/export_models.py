"""Writes the built-in embedding model as ONNX: `export_models.py FOLDER cpu|gpu`.

Run while the image is built. model_svc finds what it would otherwise export at its first
start, into a folder that it could not write to.
"""

import sys
from pathlib import Path

from model_svc.export.cached import exported_model
from model_svc.export.variants import Variant
from model_svc.repository.built_in import installed_weights


def main() -> None:
    """Exports what a service of this variant opens, the fallback on the CPU included."""
    folder, variant = Path(sys.argv[1]), sys.argv[2]
    checkpoint = installed_weights()
    print(exported_model(checkpoint, folder, variant=Variant.FLOAT32, packed=True))
    if variant == "gpu":
        print(exported_model(checkpoint, folder, variant=Variant.FLOAT16, packed=False))


if __name__ == "__main__":
    main()
