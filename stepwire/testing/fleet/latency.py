"""How long things take: distributions that a plan names, drawn from a seeded generator."""

import math
from random import Random
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# The 99th percentile of the standard normal distribution.
_Z99 = 2.326348


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Constant(_Shape):
    """Always the same."""

    shape: Literal["constant"] = "constant"
    value: float = Field(default=0.0, ge=0)

    def draw(self, random: Random) -> float:
        """Returns the value."""
        del random
        return self.value


class Uniform(_Shape):
    """Anything between two bounds, each as likely."""

    shape: Literal["uniform"] = "uniform"
    low: float = Field(ge=0)
    high: float = Field(ge=0)

    def draw(self, random: Random) -> float:
        """Returns a value between the bounds."""
        return random.uniform(self.low, self.high)


class LogNormal(_Shape):
    """Mostly near the median, sometimes far above: what latencies of services look like."""

    shape: Literal["lognormal"] = "lognormal"
    median: float = Field(gt=0)
    p99: float = Field(gt=0)

    def draw(self, random: Random) -> float:
        """Returns a value; one in a hundred is above `p99`."""
        sigma = max(0.0, math.log(self.p99 / self.median) / _Z99)
        return self.median * math.exp(sigma * random.gauss(0.0, 1.0))


class Exponential(_Shape):
    """Mostly short, with a long tail."""

    shape: Literal["exponential"] = "exponential"
    mean: float = Field(gt=0)

    def draw(self, random: Random) -> float:
        """Returns a value."""
        return random.expovariate(1.0 / self.mean)


Distribution = Annotated[Constant | Uniform | LogNormal | Exponential, Field(discriminator="shape")]
