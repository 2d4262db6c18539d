"""Large blocks are taken from the system once, and given back in the end."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import psutil
import torch
from clarice.core.allocator import freed_memory_kept

torch.set_num_threads(1)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_mb():
    return psutil.Process().memory_info().rss / 2**20

block = 64 << 18  # floats in 64 MB
torch.ones(block)
at_first = resident_mb()
with freed_memory_kept() as kept:
    for _ in range(20):  # aligned blocks leave gaps beside one another, until one fits
        torch.ones(block)
    before = faults()
    for _ in range(5):
        torch.ones(block)
    print(int(kept), faults() - before, resident_mb() - at_first)
print(resident_mb() - at_first)
torch.ones(4 * block)  # fits into no hole that is left between smaller blocks
print(resident_mb() - at_first)
"""


def test_freed_memory_is_used_again_and_then_given_back() -> None:
    program = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, page_faults, held_mb, left_mb, later_mb = (float(word) for word in program.stdout.split())
    if not kept:
        pytest.skip("the C library is not glibc")
    pages_of_one = (64 << 20) // 4096
    assert page_faults < 0.1 * pages_of_one
    assert held_mb > 50
    assert left_mb < 20
    assert later_mb < 20
