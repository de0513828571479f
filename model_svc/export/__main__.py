"""`python -m model_svc.export CHECKPOINT TARGET`: exports a sentence encoder to ONNX."""

import argparse
import sys
from pathlib import Path

from model_svc.export.checkpoint import CheckpointError
from model_svc.export.variants import Variant
from model_svc.export.writer import write_model


def main() -> None:
    """Exports the model named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m model_svc.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="folder with model.safetensors")
    parser.add_argument("target", type=Path, help="existing folder for model.onnx")
    parser.add_argument("--variant", type=Variant, choices=list(Variant), default=Variant.FLOAT32)
    parser.add_argument("--padded", action="store_true", help="compute padding, as GPUs want it")
    arguments = parser.parse_args()
    try:
        write_model(
            arguments.checkpoint,
            arguments.target,
            variant=arguments.variant,
            packed=not arguments.padded,
        )
    except CheckpointError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
