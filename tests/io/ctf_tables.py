"""STAR files with the CTF of micrographs, as programs that fit it write them."""

from __future__ import annotations


def ctf_table(pixel_size_angstrom: float, folder: str = "") -> str:
    """Of the micrographs a.mrc and b.mrc in `folder`."""
    return f"""data_optics

loop_
_rlnOpticsGroup #1
_rlnVoltage #2
_rlnSphericalAberration #3
_rlnAmplitudeContrast #4
_rlnMicrographPixelSize #5
1 300 2.7 0.1 {pixel_size_angstrom:.1f}

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
{folder}a.mrc 1 15000 14000 30
{folder}b.mrc 1 16000 15000 40
"""
