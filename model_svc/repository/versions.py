"""Which of the versions that lie in a model's folder are served."""

from collections.abc import Collection

from model_svc.sessions.errors import ModelLoadError
from stepwire.api.inference import model_config_pb2 as pb


def choose_versions(model: str, present: Collection[str], config: pb.ModelConfig) -> list[str]:
    """Returns the versions that the policy wants, the oldest first.

    Args:
        model: Name of the model.
        present: The versions that there are; positive whole numbers.
        config: Its `version_policy`, unset, means the latest version.

    Raises:
        ModelLoadError: There is none, or one that the policy names is missing.
    """
    known = sorted(present, key=int)
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            chosen = known
        case "specific":
            chosen = sorted({str(version) for version in policy.specific.versions}, key=int)
            if missing := [version for version in chosen if version not in present]:
                raise ModelLoadError(
                    f"model {model}: version_policy names {', '.join(missing)}, which is missing"
                )
        case _:
            chosen = known[-(policy.latest.num_versions or 1) :]
    if not chosen:
        raise ModelLoadError(f"model {model}: it has no version")
    return chosen
