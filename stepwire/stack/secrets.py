"""The passwords of the stack's own servers, made once per home folder."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "secrets.json"


@dataclass(frozen=True)
class StackSecrets:
    """Passwords; the servers keep them in their data, so they last as long as it does."""

    postgres_password: str
    rabbitmq_password: str


def stack_secrets(home: Path) -> StackSecrets:
    """Returns the passwords of the stack in `home`, made now if there are none yet."""
    path = home / FILE_NAME
    if not path.exists():
        fresh = StackSecrets(
            postgres_password=secrets.token_hex(16), rabbitmq_password=secrets.token_hex(16)
        )
        # Readable by its owner only, from the first moment.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(fresh), file)
    return StackSecrets(**json.loads(path.read_text()))
