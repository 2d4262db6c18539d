"""How the loop trains: the keys under `training` in a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# What may change between two starts of one run, for the weights' course does not depend on it. A new number of images
# is looked at by itself, since the learning rate's decay depends on it.
CHANGEABLE = ("images", "accumulate", "log_images", "validate_images", "checkpoint_minutes")


class TrainingSettings(BaseModel):
    """All lengths are in images, so that a recipe means the same for any number of images a batch.

    The learning rate rises over `warmup_images`, stays, and falls to zero over the last `decay_share` of `images`;
    without a total number it never falls. The optimiser Muon (Jordan et al. 2024: a matrix steps along its
    orthogonalised momentum) moves matrices of at least 32 rows and columns at `matrix_learning_rate`, AdamW the rest.
    The average of the weights reaches back `average_images`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int | None = Field(default=None, gt=0)
    optimiser: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    matrix_learning_rate: float = Field(default=2e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(default=0.01, ge=0)
    clip_norm: float | None = Field(default=1.0, gt=0)
    warmup_images: int = Field(default=10_000, ge=0)
    decay_share: float = Field(default=0.25, ge=0, le=1)
    decay: Literal["linear", "cosine"] = "linear"
    average_images: int = Field(default=50_000, ge=0)
    accumulate: int = Field(default=1, ge=1)
    precision: Annotated[Literal["32", "bf16-mixed", "auto"], BeforeValidator(str)] = "32"  # YAML: 32 is a number
    log_images: int = Field(default=5_000, gt=0)
    validate_images: int = Field(default=50_000, gt=0)
    checkpoint_minutes: float = Field(default=10.0, ge=0)
