"""The look at a stack before anything runs: what it is, whether it can be processed, and what must be said
first.
"""

from clarice.pipeline.preflight.check import check, check_file
from clarice.pipeline.preflight.verdict import Contrast, CtfEvidence, ImageFindings, Verdict

__all__ = ["Contrast", "CtfEvidence", "ImageFindings", "Verdict", "check", "check_file"]
