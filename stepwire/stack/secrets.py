"""What is random about a stack, made once per home folder: passwords, and a key."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "secrets.json"


@dataclass(frozen=True)
class StackSecrets:
    """What is random about a stack.

    Attributes:
        postgres_password: The servers keep their passwords in their data, so that these
            last as long as the data does.
        rabbitmq_password: Likewise.
        home_key: Tells this home folder from an earlier one of the same path.
    """

    postgres_password: str
    rabbitmq_password: str
    home_key: str


def stack_secrets(home: Path) -> StackSecrets:
    """Returns what is random about the stack in `home`, made now if it is new."""
    path = home / FILE_NAME
    if not path.exists():
        fresh = StackSecrets(
            postgres_password=secrets.token_hex(16),
            rabbitmq_password=secrets.token_hex(16),
            home_key=secrets.token_hex(4),
        )
        # Readable by its owner only, from the first moment.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(fresh), file)
    return StackSecrets(**json.loads(path.read_text()))
