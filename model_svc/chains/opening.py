"""From an ensemble's configuration to the model."""

from model_svc.chains.model import ChainModel, Use
from model_svc.chains.steps import plan_steps
from model_svc.repository.interface import configured_specs
from stepwire.api.inference import model_config_pb2 as pb


def chain_model(config: pb.ModelConfig, use: Use) -> ChainModel:
    """Returns the ensemble that a configuration describes; its models need not be there yet.

    Raises:
        ModelLoadError: Its tensors do not go together, or have no datatype.
    """
    return ChainModel(
        config.name,
        steps=plan_steps(config),
        inputs=configured_specs(config, config.input),
        outputs=configured_specs(config, config.output),
        max_batch_rows=config.max_batch_size,
        use=use,
    )
