"""The advice of a run in plain sentences, each from stated thresholds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clarice.core.counting import counted
from clarice.metrics.predicted_fsc import FallOff, Prediction
from clarice.metrics.view_coverage import THIN_SAMPLING, Coverage
from clarice.pipeline.class_advice import CERTAIN, FEWEST_IN_CLASS, MOST_CLASSES, ClassAdvice, Neighbours
from clarice.pipeline.defocus_snr import COARSEST_ANGSTROM, DefocusGroup, MeasuredSnr, Snr
from clarice.pipeline.postprocess import ANISOTROPIC

# A range of defocus with less than this share of the best one's SNR is much worse; with a contrast less than this share
# of the whole set's, worse than its CTF explains.
MUCH_WORSE, FAINT = 0.5, 0.8
# Four times the particles are worth collecting where they make details finer by this factor.
WORTH_COLLECTING = 1.1
ANGSTROM_PER_MICROMETRE = 1e4


def of_classes(found: ClassAdvice) -> str:
    """What became of the classes, and how many to ask for."""
    members = found.members
    sizes = ""
    if members:
        span = f"{members[-1]} to {members[0]}" if members[-1] != members[0] else f"{members[0]}"
        sizes = f", of {span} particles each (median {np.median(members):.0f})"
    said = f"{len(members)} of {counted(found.asked, 'class', 'classes')} were kept{sizes}."
    if found.fill is None or found.advised is None:
        return f"{said} How many to ask for cannot be told: near {COARSEST_ANGSTROM:.0f} Å no signal is sure."
    said += (
        f" Near {COARSEST_ANGSTROM:.0f} Å it takes {counted(found.fill, 'particle')} of one view to make an average "
        f"with as much signal as noise (a class needs {FEWEST_IN_CLASS} to be aligned), and a particle of this "
        "diameter and symmetry has "
        f"{counted(found.views, 'view')} that differ by as much as that"
    )
    if found.fits:
        return f"{said}: the {counted(found.asked, 'class', 'classes')} of this run are about right."
    most = f" (no more than {MOST_CLASSES} are advised)" if found.advised == MOST_CLASSES else ""
    return f"{said}: --classes {found.advised} would suit this stack{most}."


def of_neighbours(found: Neighbours, fill: int | None) -> str:
    """How many images the joint denoiser put together, and how many it takes."""
    said = (
        f"The median denoised image kept {100 * found.kept_weight:.0f} % of its weight for itself and drew the rest "
        f"from no fewer than {max(1, round(found.effective))} others in effect"
    )
    if fill is None:
        return f"{said}."
    enough = "enough" if found.effective >= fill else "fewer than that"
    return f"{said}, {enough}: an average with as much signal as noise near {COARSEST_ANGSTROM:.0f} Å takes {fill}."


def of_snr(found: MeasuredSnr) -> str:
    """The SNR of all particles, and the ranges of defocus that carry the signal and that do not."""
    said = f"To {found.finest_angstrom:.0f} Å, power of signal over noise is {_value(found.whole)} in the box."
    groups = found.groups
    if len(groups) < 2:
        return said
    best = max(groups, key=lambda group: group.snr.value)
    power = np.array([group.particles * max(group.snr.value, 0.0) for group in groups])
    share = 100 * power[groups.index(best)] / max(power.sum(), 1e-30)
    said += f" It is highest at {_range(best)} ({_value(best.snr)}; {share:.0f} % of all signal)"
    worse, faint = much_worse(groups), faint_groups(found)
    if worse:
        words = ", ".join(f"{_range(group)} ({_value(group.snr)})" for group in worse)
        said += f" and much lower at {words}"
    elif not faint:
        said += "; no other range has less than half of that"
    return f"{said}."


def much_worse(groups: tuple[DefocusGroup, ...]) -> list[DefocusGroup]:
    """Ranges of defocus whose SNR is surely less than half of the best one's."""
    if len(groups) < 2:
        return []
    best = max(groups, key=lambda group: group.snr.value).snr
    return [
        group
        for group in groups
        if MUCH_WORSE * best.value - group.snr.value > CERTAIN * np.hypot(MUCH_WORSE * best.error, group.snr.error)
    ]


def faint_groups(found: MeasuredSnr) -> list[DefocusGroup]:
    """Ranges of defocus that surely show less than 0.8 of the contrast that their CTF promises, against all."""
    scale = found.whole.scale
    return [
        group
        for group in found.groups
        if scale > 0 and FAINT - group.snr.scale / scale > CERTAIN * group.snr.scale_error / scale
    ]


def of_resolution(predictions: tuple[Prediction, ...], particles: int, fall_off: FallOff | None) -> str:
    """What fewer and more particles would give, and what the prediction supposes."""
    now = next(one for one in predictions if one.ratio == 1)
    if now.limited:
        fewer = next((one for one in reversed(predictions) if one.ratio < 1 and not one.limited), None)
        tail = "" if fewer is None else f"; {fewer.ratio * particles:,.0f} of them would reach {_resolution(fewer)}"
        return (
            f"The FSC of {particles:,} particles stays above 0.143 up to the last shell, {_resolution(now)}: the "
            f"working box limits it, and what more particles would give cannot be seen{tail}."
        )
    listed = [one for one in predictions if one.ratio > 1 and one.resolution_angstrom is not None]
    said = f"{particles:,} particles give {_resolution(now)}"
    if not listed:
        return f"{said}; what more would give cannot be told, because the fall of the FSC fits no line."
    more = ", ".join(f"{_resolution(one)} with {one.ratio * particles:,.0f}" for one in listed)
    said += f"; more would give, at the present accuracy of orientations: {more}."
    if fall_off is not None and fall_off.b_factor_angstrom2 is not None:
        said += (
            f" The B-factor of Rosenthal and Henderson is {fall_off.b_factor_angstrom2:.0f} ± "
            f"{2 * fall_off.error_angstrom2:.0f} Å²."
        )
    return said


def what_to_collect(
    predictions: tuple[Prediction, ...],
    found: MeasuredSnr,
    views: Coverage,
    worst_over_best: float,
    whole_box: bool,
) -> Iterator[tuple[str, str]]:
    """Topic and sentence of each thing to collect more of, the most pressing first.

    `worst_over_best`: the worst directions' resolution over the best ones'; `whole_box`: the working box has the pixels
    of the stack.
    """
    if views.least_sampled < THIN_SAMPLING or worst_over_best >= ANISOTROPIC:
        uneven = (
            f", and in its worst directions the map is {worst_over_best:.1f} times coarser than in its best"
            if worst_over_best >= ANISOTROPIC
            else ""
        )
        yield (
            "views",
            f"Collect other views first: the least-sampled direction of Fourier space has {views.least_sampled:.2f} of "
            f"the mean{uneven}. Tilt the stage, or try another grid or a detergent: more of the same views will not "
            "help.",
        )
    yield from _of_numbers(predictions, whole_box)
    faint, worse = faint_groups(found), much_worse(found.groups)
    if faint:
        yield (
            "defocus",
            f"Look at the micrographs at {_ranges(faint)}: their particles show less than {FAINT} of the contrast that "
            "their CTF promises, as where ice is thick or the defocus is wrong. Leave them out, or fit their CTF anew.",
        )
    elif worse:
        yield (
            "defocus",
            f"At {_ranges(worse)} particles have less than half of the best range's coarse signal, as their CTF "
            "promises. Collect more elsewhere if orientations are unsure; for fine detail these may do as well.",
        )


def _of_numbers(predictions: tuple[Prediction, ...], whole_box: bool) -> Iterator[tuple[str, str]]:
    """Finer pixels, or more particles."""
    now, more, most = (next((one for one in predictions if one.ratio == ratio), None) for ratio in (1, 4, 10))
    if now is not None and now.limited:
        remedy = "Extract with smaller pixels, or magnify more." if whole_box else "Pass a larger --working-box."
        yield "pixels", f"Finer pixels come before more particles: the box, not the data, limits the map. {remedy}"
        return
    if now is None or now.resolution_angstrom is None:
        return
    if more is not None and more.resolution_angstrom is not None:
        if now.resolution_angstrom / more.resolution_angstrom >= WORTH_COLLECTING or more.limited:
            yield (
                "particles",
                f"More particles pay: four times as many should bring {_resolution(now)} to {_resolution(more)}.",
            )
        elif most is not None and most.resolution_angstrom is not None:
            yield (
                "particles",
                f"More particles alone bring little: ten times as many would go from {_resolution(now)} to "
                f"{_resolution(most)}. What limits the map is how sharp, how alike and how surely oriented they are.",
            )


def _resolution(one: Prediction) -> str:
    if one.resolution_angstrom is None:
        return "an unknown resolution"
    return f"{one.resolution_angstrom:.1f} Å{' (the limit of the box) or better' if one.limited else ''}"


def _value(snr: Snr) -> str:
    digits = 3 if snr.error < 0.01 else 2
    return f"{snr.value:.{digits}f} ± {max(snr.error, 10**-digits):.{digits}f}"


def _range(group: DefocusGroup) -> str:
    return defocus_range(group.least_angstrom, group.most_angstrom)


def defocus_range(least_angstrom: float, most_angstrom: float) -> str:
    """A range of defocus as text in µm, as one number where both ends read alike."""
    least, most = (f"{value / ANGSTROM_PER_MICROMETRE:.2f}" for value in (least_angstrom, most_angstrom))
    return f"{least} µm" if least == most else f"{least}–{most} µm"


def _ranges(groups: list[DefocusGroup]) -> str:
    return ", ".join(_range(group) for group in groups)
