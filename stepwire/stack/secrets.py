"""What is random about a stack, made once per home folder: passwords, and a key."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from stepwire.api_keys import key_text, new_key_id, new_secret, read_key

FILE_NAME = "secrets.json"


@dataclass(frozen=True)
class StackSecrets:
    """What is random about a stack.

    Attributes:
        postgres_password: The servers keep their passwords in their data, so that these
            last as long as the data does.
        rabbitmq_password: Likewise.
        home_key: Tells this home folder from an earlier one of the same path.
        first_key: Reference of the key with which the gateway's keys begin; empty where none
            was ever asked for.
    """

    postgres_password: str
    rabbitmq_password: str
    home_key: str
    first_key: str = ""


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


def make_first_key(home: Path) -> str | None:
    """Makes the key with which the gateway's keys begin, unless there was one.

    Returns:
        Its text, which is kept nowhere; None if there was one.
    """
    known = stack_secrets(home)
    if known.first_key:
        return None
    text = key_text(new_key_id(), new_secret())
    kept = read_key(text)
    assert kept is not None
    path = home / FILE_NAME
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(asdict(replace(known, first_key=kept.reference))))
    fresh.replace(path)
    return text
