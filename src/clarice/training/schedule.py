"""Learning rate and averaging as functions of the images seen, so that a position in training says all."""

from __future__ import annotations

import math

from clarice.training.settings import TrainingSettings

# While few images were seen, the average reaches back over this share of them, so that it forgets the random start.
AVERAGED_SHARE = 0.1


def decay_start(settings: TrainingSettings) -> float:
    """Images after which the learning rate falls; infinite without a total number of images."""
    if settings.images is None or settings.decay_share == 0:
        return math.inf
    return settings.images * (1 - settings.decay_share)


def least_images(seen: int, settings: TrainingSettings) -> int | None:
    """The smallest total number with which the learning rate has not begun to fall after `seen` images, or None."""
    if settings.decay_share == 0:
        return seen
    if settings.decay_share == 1:
        return None
    least = int(seen / (1 - settings.decay_share))
    while decay_start(settings.model_copy(update={"images": least})) < seen:
        least += 1
    return least


def share_of_rate(images: int, batch: int, settings: TrainingSettings) -> float:
    """Share of the full rate at the step from `images` to `images + batch`: warm-up, constant, and a final decay."""
    rising = min(1.0, (images + batch) / settings.warmup_images) if settings.warmup_images else 1.0
    return rising * _falling(images, settings)


def learning_rate(images: int, batch: int, settings: TrainingSettings) -> float:
    """The rate itself, as the log shows it."""
    return settings.learning_rate * share_of_rate(images, batch, settings)


def _falling(images: int, settings: TrainingSettings) -> float:
    start = decay_start(settings)
    if settings.images is None or images <= start:
        return 1.0
    left = max(0.0, (settings.images - images) / (settings.images - start))
    return left if settings.decay == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)


def newcomer_share(images: int, batch: int, settings: TrainingSettings) -> float:
    """What the weights after the step from `images` to `images + batch` contribute to their average."""
    reach = min(float(settings.average_images), AVERAGED_SHARE * images)
    return 1.0 if reach <= 0 else -math.expm1(-batch / reach)


def crossed(every: int, images: int, batch: int) -> bool:
    """Whether the step that ended at `images` passed a multiple of `every`."""
    return images // every > (images - batch) // every
