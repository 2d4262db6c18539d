"""Large blocks are taken from the system once."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from clarice.core.allocator import keep_freed_memory

torch.set_num_threads(1)
print("kept" if keep_freed_memory() else "elsewhere")

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

megabytes = 64
for _ in range(20):  # aligned blocks leave gaps beside one another, until one fits
    torch.ones(megabytes << 18)
before = faults()
for _ in range(5):
    torch.ones(megabytes << 18)
print(faults() - before)
"""


def test_freed_memory_is_used_again() -> None:
    program = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    said, page_faults = program.stdout.split()
    if said == "elsewhere":
        pytest.skip("the C library is not glibc")
    pages_of_one = (64 << 20) // 4096
    assert int(page_faults) < 0.1 * pages_of_one
