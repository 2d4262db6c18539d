"""A first map by projection matching, common lines or moments, or the likelier one of the first two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from clarice.abinitio import projection_matching
from clarice.abinitio.evidence import LEAST_OWN_GAIN, gain_by_start, laid_sample, random_phases
from clarice.abinitio.pose_assignment import Laid
from clarice.core.particles import RowIndex
from clarice.core.progress import Progress, silent
from clarice.geometry.so3 import view_directions
from clarice.metrics.view_coverage import coverage, share_from_everywhere, with_copies
from clarice.physics.noisy_set import NoisySet
from clarice.pipeline.denoised_files import DenoisedBefore
from clarice.pipeline.first_map_settings import FEWEST_HELD_OUT, FirstMapSettings, Method
from clarice.pipeline.line_map import FEWEST_PARTICLES, LineMap, first_map_by_lines
from clarice.pipeline.moment_map import MomentMap, first_map_by_moments

OWN_PARTICLES_NO_LIKELIER = (
    "the particles that the map was made of are hardly likelier under it than under pure noise: "
    "the map is not to be trusted"
)
RANDOM_PHASES_AS_LIKELY = (
    "with their phases made random, particles lose too little of their likelihood under the map: it fits what their "
    "spectra hold, and is no evidence of a structure"
)


@dataclass(frozen=True)
class FirstMap:
    """A map (L, L, L), the finest ring it holds, and the method that gave it.

    `record` is what speaks for it, in JSON's types; `said` a line for the user; `warning` why not to trust it, if so;
    `views_warning` that particles prefer some views, if they do.
    """

    volume: Tensor
    radius_px: float
    method: Method
    record: dict[str, Any]
    said: str
    warning: str | None = None
    views_warning: str | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """All there is to warn of."""
        return tuple(each for each in (self.warning, self.views_warning) if each is not None)

    def as_record(self) -> dict[str, Any]:
        """The content of `abinitio.json`."""
        return {"method": self.method.value, "radius_px": self.radius_px, **self.record}


def find_first_map(
    particles: NoisySet,
    settings: FirstMapSettings,
    progress: Progress = silent,
    denoised: DenoisedBefore | None = None,
) -> FirstMap:
    """A first map by `settings.method`; of both maps, the one under which the particles are likelier.

    `denoised` gives images of rows of `particles` that `settings.denoiser` made before; None denoises anew. Too few
    particles for common lines are matched to projections alone, where either method may serve. Raises InputError where
    they are too few for the method asked for, UsageError for a denoiser that does not exist.
    """
    if settings.method is Method.BOTH and len(particles) >= FEWEST_PARTICLES:
        found, laid = _likelier(particles, settings, progress, denoised)
    else:
        found, laid = _the_only_one(particles, settings, progress, denoised), None
    if found.warning is not None:
        return found  # on a map that shows nothing, particles look from anywhere
    laying = settings.laying(particles.box, found.radius_px)
    if laid is None:
        laid = laid_sample(particles, found.volume, laying)
    phases = random_phases(particles, found.volume, laying, laid)
    record = {**found.record, "random_phases": asdict(phases)}
    if not phases.stands_out:
        return replace(found, record=record, warning=RANDOM_PHASES_AS_LIKELY)
    return replace(found, record=record, views_warning=_preferred_views(laid, settings))


def _the_only_one(
    particles: NoisySet, settings: FirstMapSettings, progress: Progress, denoised: DenoisedBefore | None
) -> FirstMap:
    """The map of the one method that is asked for, or that can be tried."""
    if settings.method is Method.BOTH:
        found = _by_projection_matching(particles, settings, progress, denoised)
        return replace(found, said=f"projection matching alone, {len(particles)} particles being few; {found.said}")
    return _FINDERS[settings.method](particles, settings, progress, denoised)


def _preferred_views(laid: Laid, settings: FirstMapSettings) -> str | None:
    """A warning where a sample of particles, laid on the map, looks from few directions."""
    directions = with_copies(view_directions(laid.poses.rotations), settings.symmetry)
    views = coverage(directions)
    if not views.is_preferred(len(directions)):
        return None
    return (
        f"{len(laid.poses)} particles laid on the first map look from {views.seen_share:.0%} of all directions, as "
        f"many from everywhere would from {share_from_everywhere(len(directions)):.0%}: they prefer some views, and a "
        "map is drawn out along what is not seen; compare the class averages, and collect tilted images or other grids"
    )


def _by_projection_matching(
    particles: NoisySet,
    settings: FirstMapSettings,
    progress: Progress,
    denoised: DenoisedBefore | None,  # noqa: ARG001
) -> FirstMap:
    found = projection_matching.initial_map(particles, settings.matching(), progress)
    return FirstMap(
        found.volume,
        found.radius_px,
        Method.PROJECTION_MATCHING,
        {**found.record(), "log_likelihood": found.starts[found.chosen].log_likelihood},
        f"start {found.chosen + 1} of {settings.starts}",
        found.doubt,
    )


def _by_common_lines(
    particles: NoisySet, settings: FirstMapSettings, progress: Progress, denoised: DenoisedBefore | None
) -> FirstMap:
    found = first_map_by_lines(particles, settings, progress, denoised)
    lines, count = found.lines, len(found.laid_by_lines)
    said = f"{count} particles denoised by {settings.denoiser}, {lines.found.share:.0%} of their lines agree"
    record = {
        "denoiser": settings.denoiser,
        "laid_by_lines": found.laid_by_lines.tolist(),
        "agreeing_lines": lines.found.share,
        "outliers": found.laid_by_lines[lines.outliers()].tolist(),
        "gain_a_pair": lines.gain / (count * (count - 1) / 2),
    }
    return _judged(particles, settings, Method.COMMON_LINES, found, found.rows, record, said)


def _by_moments(
    particles: NoisySet, settings: FirstMapSettings, progress: Progress, denoised: DenoisedBefore | None
) -> FirstMap:
    found = first_map_by_moments(particles, settings, progress, denoised)
    said = f"moments of {len(found.counted)} particles, met within {found.misfit:.2f} of what they err by"
    record = {
        "denoiser": settings.denoiser,
        "particles_in_moments": len(found.counted),
        "misfit": found.misfit,
        "misfit_by_start": [each / found.elements for each in found.fit.by_start],
        "density_of_views": found.fit.c.tolist(),
    }
    if found.fit.by_degree is not None:
        record["degree_agreement"] = found.fit.by_degree
    return _judged(particles, settings, settings.method, found, found.counted, record, said)


def _judged(
    particles: NoisySet,
    settings: FirstMapSettings,
    method: Method,
    found: LineMap | MomentMap,
    had_a_part: RowIndex,
    record: dict[str, Any],
    said: str,
) -> FirstMap:
    """A map that some of the particles had a part in, with how likely the others are under it, if they are enough."""
    others = np.setdiff1d(np.arange(len(particles)), had_a_part)
    held_out = len(others) >= FEWEST_HELD_OUT
    judges = particles.subset(others) if held_out else particles
    gain = gain_by_start(judges, found.volume, settings.laying(particles.box, found.radius_px))
    least, warning = LEAST_OWN_GAIN, OWN_PARTICLES_NO_LIKELIER
    if held_out:
        least, warning = projection_matching.LEAST_HELD_OUT_GAIN, projection_matching.NO_LIKELIER_THAN_NOISE
    record = {
        **record,
        "particles_in_map": len(found.rows),
        "log_likelihood": gain,
        "judged_by": "particles held out" if held_out else "its own particles",
    }
    return FirstMap(found.volume, found.radius_px, method, record, said, warning if gain <= least else None)


_FINDERS: dict[Method, Callable[[NoisySet, FirstMapSettings, Progress, DenoisedBefore | None], FirstMap]] = {
    Method.COMMON_LINES: _by_common_lines,
    Method.PROJECTION_MATCHING: _by_projection_matching,
    Method.MOMENTS: _by_moments,
    Method.LEARNED: _by_moments,
}
# Of Method.BOTH.
COMPARED = (Method.COMMON_LINES, Method.PROJECTION_MATCHING)


def _likelier(
    particles: NoisySet, settings: FirstMapSettings, progress: Progress, denoised: DenoisedBefore | None
) -> tuple[FirstMap, Laid]:
    """The likelier of both maps, looked at up to the same radius, and the sample laid on it.

    What the other was like stays on record.
    """
    tried = [_FINDERS[method](particles, settings, progress, denoised) for method in COMPARED]
    laying = settings.laying(particles.box, particles.box / 2)
    samples = [laid_sample(particles, each.volume, laying) for each in tried]
    gains = [float(laid.log_evidence.mean()) for laid in samples]
    chosen, other = sorted(range(len(tried)), key=lambda index: gains[index], reverse=True)
    best = tried[chosen]
    record = {
        **best.record,
        "log_likelihood_compared": gains[chosen],
        "other": {**tried[other].as_record(), "log_likelihood_compared": gains[other]},
    }
    compared = ", ".join(f"{each.method.value} {gain:.1f}" for each, gain in zip(tried, gains, strict=True))
    said = f"{best.method.value}, by log-likelihood a particle ({compared}); {best.said}"
    return FirstMap(best.volume, best.radius_px, best.method, record, said, best.warning), samples[chosen]
