"""`python -m model_svc.export CHECKPOINT TARGET`: exports a sentence encoder to ONNX."""

import argparse
import sys
from pathlib import Path

from model_svc.export.checkpoint import CheckpointError
from model_svc.export.writer import write_model


def main() -> None:
    """Exports the model named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m model_svc.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="folder with model.safetensors")
    parser.add_argument("target", type=Path, help="existing folder for model.onnx")
    arguments = parser.parse_args()
    try:
        write_model(arguments.checkpoint, arguments.target)
    except CheckpointError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
