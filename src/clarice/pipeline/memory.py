"""What the work takes: memory by the sizes of what it holds, time by measured growth; constants fit measured peaks.

Boxes of 64 to 160 px, 120 to 2,500 particles, one and two workers: within a fifth of what a reconstruction took, 0.9 to
1.7 times what a refinement took, whose last resolution is not known beforehand. Boxes above 200 px, whose maps are
given back to the system as soon as they are freed, take about a quarter less.
"""

from __future__ import annotations

import math

from clarice.abinitio.from_poses import samples_at_once
from clarice.abinitio.pose_search import PARTICLES_AT_ONCE
from clarice.abinitio.refinement import FINEST_SPACING_DEG
from clarice.abinitio.views import samples_at_once as view_samples_at_once
from clarice.core.large_array import IN_MEMORY_BYTES
from clarice.core.parallel import worker_count
from clarice.geometry.polar import FourierRings
from clarice.geometry.so3 import sphere_grid_spaced
from clarice.pipeline.prepare import CHUNK_PIXELS
from clarice.pipeline.resources import MEGABYTE
from clarice.pipeline.stages import Estimate

# The interpreter with all its libraries, and what any work on images allocates besides.
INTERPRETER_MB, WORKSPACE_MB = 350.0, 60.0
# A chunk of images being prepared: its transforms and masks.
BYTES_PER_CHUNK_PIXEL = 36
# A Fourier sample being inserted: its position in two forms, its value and weight, their order on the grid.
BYTES_PER_SAMPLE = 80
# Maps, the kernel on the doubled grid, and the transforms that make and apply it, in floats a voxel: what all workers
# share, and what each has of its own, in a reconstruction up to Nyquist and in a refinement.
RECONSTRUCTION_FLOATS, REFINEMENT_FLOATS = (45, 85), (20, 65)
# Batches of the first map, and maps in the working box while it is resized.
FIRST_MAP_BATCHES_MB, MAPS_BESIDE_THE_FIRST = 200.0, 10
# Of a fit to moments: a start, and the last fit in starts; what all starts hold at once.
SECONDS_PER_MOMENT_START, LAST_MOMENT_FIT, MOMENT_FIT_MB = 45.0, 2, 500.0
# Of several maps found together: the matches of a batch to the views of all of them, and what each map has beside it.
MATCHES_MB, MAPS_BESIDE_A_CLASS = 10.0, 4
# Grids of views alive at once: references, and the sums of the averages before and after their weighting.
VIEW_GRIDS = 5
# Copies of a part's Fourier rings alive at once, while their CTFs are sampled.
RING_COPIES = 4
# Measured speed of one core: seconds for a map of 2²⁰ bytes, each insertion on its grid, and a million samples.
SECONDS_PER_MAP_MB, SECONDS_PER_INSERTION, SECONDS_PER_MILLION_SAMPLES = 3.5, 0.7, 1.0
# Two cores: seconds for a random start, and for an iteration on 1,000 particles in a box of 64 px.
SECONDS_PER_START, SECONDS_PER_ITERATION = 12.0, 7.5
# Common lines: the table of how well rays fit, for each pair and pair of cells, and all else that is held for a pair;
# a network that denoises; and seconds for 1,000 denoised, for a random start of 500 images, for all else of 500, and
# for 1,000 laid on the map.
LINE_TABLE_BYTES, LINE_PAIR_BYTES, DENOISING_MB = 11, 600, 700.0
SECONDS_PER_DENOISED, SECONDS_PER_LINE_START, SECONDS_PER_LINES, SECONDS_PER_LAID = 8.0, 10.0, 6.0, 3.0
# 2D classes: copies of the images of a small stack on Fourier rings, and what is held for each particle; seconds for
# 1,000 particles that every iteration sees, up to so many, and for 1,000 more, which few iterations see.
IMAGES_OF_CLASSES, BYTES_PER_MEMBER = 8, 1000
SECONDS_PER_CLASSIFIED, WHOLLY_CLASSIFIED, SECONDS_PER_MORE_CLASSIFIED = 20.0, 2500, 2.0
# Null controls: copies of their images alive at once, and seconds for 1,000 of them.
IMAGES_OF_A_CONTROL, SECONDS_PER_CONTROL = 12, 15.0
# Half maps compared by place and direction: floats a voxel, and seconds for each shell of a map of 2²⁰ bytes.
COMPARISON_FLOATS, SECONDS_PER_SHELL_MB = 40, 0.05
# Maps written: a first map in both hands; a refined one in both hands, its halves and their mask; the sharpened one,
# its local resolution and the mask.
FIRST_MAPS_WRITTEN, REFINED_MAPS_WRITTEN, SHARPENED_MAPS_WRITTEN = 2, 5, 3


def volume_mb(box: int) -> float:
    """A map (L, L, L) of 32-bit floats."""
    return 4 * box**3 / MEGABYTE


def images_mb(count: int, box: int) -> float:
    """Images (n, L, L) of 32-bit floats."""
    return 4 * count * box**2 / MEGABYTE


def all_rings(box: int) -> FourierRings:
    """Every ring of a box whose particle fills it: no work on the box has more samples."""
    return FourierRings.up_to(box, box / 2 - 1, box)


def on_images_mb(count: int, box: int) -> float:
    """The process while it goes through a stack in chunks."""
    chunk_pixels = min(count * box**2, CHUNK_PIXELS)
    return INTERPRETER_MB + WORKSPACE_MB + BYTES_PER_CHUNK_PIXEL * chunk_pixels / MEGABYTE


def view_grid_mb(box: int, spacing_deg: float, group_order: int) -> float:
    """Real rings (J, R, T) of one asymmetric unit's views on every ring of the box."""
    rings = all_rings(box)
    unit = len(sphere_grid_spaced(spacing_deg)) / group_order
    views = unit + (2 * math.sqrt(unit) if group_order > 1 else 0)  # half a step beyond the edges
    return 4 * views * rings.count * rings.n_angles / MEGABYTE


def _maps_mb(box: int, floats: tuple[int, int]) -> float:
    shared, of_a_worker = floats
    return (shared + worker_count() * of_a_worker) * volume_mb(box)


def first_map_mb(count: int, input_box: int, box: int) -> float:
    """The process while it looks for a first map: batches in small boxes, then maps of `box`."""
    return on_images_mb(count, input_box) + FIRST_MAP_BATCHES_MB + MAPS_BESIDE_THE_FIRST * volume_mb(box)


def refinement_mb(count: int, input_box: int, box: int, group_order: int) -> float:
    """The process while it refines `count` particles in the working box `box`, at the finest grid of views."""
    rings = all_rings(box)
    stack = 8 * min(count, PARTICLES_AT_ONCE) * rings.count * rings.n_angles // 2 / MEGABYTE
    a_worker = WORKSPACE_MB + BYTES_PER_SAMPLE * view_samples_at_once(box) / MEGABYTE
    grids = VIEW_GRIDS * view_grid_mb(box, FINEST_SPACING_DEG, group_order)
    return (
        on_images_mb(count, input_box)
        + worker_count() * a_worker
        + _maps_mb(box, REFINEMENT_FLOATS)
        + grids
        + RING_COPIES * stack
        + images_mb(count, box)
    )


def grown(seconds: float, count: int, box: int) -> float:
    """Time of work that takes `seconds` on 1,000 particles in a box of 64 px, and one second at least."""
    return seconds * count / 1000 * (box / 64) ** 2 + 1


def first_map(count: int, input_box: int, box: int, starts: int) -> Estimate:
    """What a first map takes: batches in small boxes, whatever the stack holds, then maps in the working box."""
    memory_mb = first_map_mb(count, input_box, box)
    return Estimate(SECONDS_PER_START * starts, memory_mb, FIRST_MAPS_WRITTEN * volume_mb(box))


def sorted_maps(count: int, input_box: int, box: int, starts: int, classes: int) -> Estimate:
    """What `classes` maps found together take: each sees as many particles, and these are matched to all maps."""
    one = first_map(count, input_box, box, starts)
    return Estimate(
        one.seconds * classes**2 + grown(SECONDS_PER_LAID, count, box),
        one.memory_mb + MATCHES_MB * classes**2 + MAPS_BESIDE_A_CLASS * classes * volume_mb(box),
        one.disk_mb * classes,
    )


def first_map_by_lines(
    count: int,
    input_box: int,
    box: int,
    images: int,
    denoised: int,
    cells: int,
    starts: int,
    group_order: int,
    *,
    denoised_before: bool = False,
) -> Estimate:
    """What a map by common lines takes: `denoised` particles, `images` of them laid, `cells` on half a circle."""
    table = LINE_TABLE_BYTES * images**2 * cells**2 / MEGABYTE
    pairs = LINE_PAIR_BYTES * images**2 / MEGABYTE
    whole = reconstruction(denoised, input_box, box, group_order)
    memory_mb = max(
        on_images_mb(count, input_box) + images_mb(2 * denoised, box) + DENOISING_MB + max(table, pairs),
        whole.memory_mb,
    )
    seconds = (
        (0.0 if denoised_before else grown(SECONDS_PER_DENOISED, denoised, box))
        + whole.seconds * (1 + images / denoised)
        + SECONDS_PER_LINE_START * starts * group_order * (images / 500) ** 1.5
        + SECONDS_PER_LINES * (images / 500) ** 2
        + grown(SECONDS_PER_LAID, count + denoised, box)
    )
    return Estimate(seconds, memory_mb, FIRST_MAPS_WRITTEN * volume_mb(box))


def first_map_by_moments(by_lines: Estimate, starts: int) -> Estimate:
    """What a map by moments takes: as many particles are denoised and laid as `by_lines`, and a structure is fitted."""
    fit = SECONDS_PER_MOMENT_START * (starts + LAST_MOMENT_FIT)
    return Estimate(by_lines.seconds + fit, by_lines.memory_mb + MOMENT_FIT_MB, by_lines.disk_mb)


def refinement(count: int, input_box: int, box: int, group_order: int, iterations: int) -> Estimate:
    """What a refinement of `count` particles takes in the working box `box`."""
    memory_mb = refinement_mb(count, input_box, box, group_order)
    seconds = grown(SECONDS_PER_ITERATION * iterations, count, box)
    return Estimate(seconds, memory_mb, REFINED_MAPS_WRITTEN * volume_mb(box))


def reconstruction(count: int, input_box: int, box: int, group_order: int) -> Estimate:
    """What a map of `count` particles of known poses takes in the working box `box`."""
    rings = all_rings(box)
    samples = count * rings.count * rings.n_angles // 2 * group_order
    at_once = min(samples / 2, samples_at_once(box))  # the half sets come one after the other
    insertions = 2 * math.ceil(samples / 2 / samples_at_once(box))
    held = images_mb(count, box)
    inserting = _maps_mb(box, RECONSTRUCTION_FLOATS) + BYTES_PER_SAMPLE * at_once / MEGABYTE
    return Estimate(
        seconds=1
        + volume_mb(box) * (SECONDS_PER_MAP_MB + SECONDS_PER_INSERTION * insertions)
        + SECONDS_PER_MILLION_SAMPLES * samples / 1e6,
        memory_mb=held + max(on_images_mb(count, input_box), INTERPRETER_MB + WORKSPACE_MB + inserting),
        disk_mb=4 * volume_mb(box),
    )


def postprocessing(box: int) -> Estimate:
    """What it takes to sharpen a map of `box` px and to compare its halves by place and by direction."""
    size = volume_mb(box)
    return Estimate(
        seconds=2 + SECONDS_PER_SHELL_MB * size * box / 2,
        memory_mb=INTERPRETER_MB + WORKSPACE_MB + COMPARISON_FLOATS * size,
        disk_mb=SHARPENED_MAPS_WRITTEN * size,
    )


def controlling(images: int, box: int) -> Estimate:
    """Null controls on so many images of three kinds, one kind at a time."""
    memory = on_images_mb(images, box) + IMAGES_OF_A_CONTROL * images_mb(images, box) + DENOISING_MB
    return Estimate(seconds=grown(SECONDS_PER_CONTROL, 3 * images, box), memory_mb=memory)


def controlling_map(images: int, input_box: int, box: int) -> Estimate:
    """Controls of a map: so many images of four kinds, each laid once over all views."""
    seconds = grown(SECONDS_PER_ITERATION, 4 * images, box)
    return Estimate(seconds, first_map_mb(images, input_box, box))


def classifying(count: int, input_box: int, box: int) -> Estimate:
    """2D classes: small stacks are held on Fourier rings, of large ones no more than a bounded part."""
    held = min(IMAGES_OF_CLASSES * images_mb(count, box), 2 * IN_MEMORY_BYTES / MEGABYTE)
    whole = min(count, WHOLLY_CLASSIFIED)
    seconds = grown(SECONDS_PER_CLASSIFIED, whole, box) + grown(SECONDS_PER_MORE_CLASSIFIED, count - whole, box)
    return Estimate(seconds, on_images_mb(count, input_box) + held + BYTES_PER_MEMBER * count / MEGABYTE)
