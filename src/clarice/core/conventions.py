"""The binding conventions, one clause each. `tests/contracts/test_conventions.py` holds a test named after each.

Full statement with reasons: docs/conventions.md.
"""

from __future__ import annotations

CLAUSES: dict[str, str] = {
    "images": "float32 (n, L, L), axes (y, x); volumes (L, L, L), axes (z, y, x): MRC order",
    "centre": "rotation and Fourier origin at pixel index L // 2, for even and odd L alike",
    "fourier_transform": 'norm="backward"; noise spectra are per-pixel variances: P(k) = E|F(k)|² / L²',
    "rotation": "active R takes molecule to view, x_view = R @ x_molecule, vectors (x, y, z); beam along z_view",
    "euler_angles": "RELION rot, tilt, psi in degrees: R = Rz(−psi) Ry(−tilt) Rz(−rot)",
    "in_plane_rotation": "θ from +x to +y index; turning content by +α shifts its polar form by +α, lowers psi by α",
    "shifts": "the translation that centres the particle: the content sits at x_view − origin",
    "ctf": "H = +sin χ with χ = πλΔz s² − ½πC_sλ³s⁴ + phase + arcsin w, so H(0) = +w",
    "contrast": "inside, protein is bright; the input's sign is found, told, and restored on writing",
    "units": "units stand in the name; no default pixel size anywhere",
    "snr": "mean square over the box of the noiseless CTF-applied image / noise variance per pixel",
    "relative_mse": "Σ‖x̂ − x‖² / Σ‖x‖² over the set, inside the inscribed disk",
    "fsc": "0.143 between half maps, 0.5 against the truth; threshold and Nyquist are printed",
    "gauge": "maps are compared after registration (rotation, shift, hand); errors modulo symmetry",
    "randomness": "an explicit seed; nothing touches global state",
}


def centre_index(box: int) -> int:
    """Pixel index of the rotation centre and Fourier origin."""
    return box // 2
