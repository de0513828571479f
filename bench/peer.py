"""The environments in which peers run, away from ours."""

import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


def peer_python(name: str, *, interpreter: str = sys.executable) -> Path:
    """The interpreter of a peer's own environment, made now if it is new.

    Args:
        name: The peer's folder.
        interpreter: What the environment is made with.
    """
    folder = PEERS / name
    python = folder / ".venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([interpreter, "-m", "venv", str(folder / ".venv")], check=True)
        install = ["-m", "pip", "install", "--quiet", "-r", str(folder / "requirements.txt")]
        subprocess.run([str(python), *install], check=True)
    return python
