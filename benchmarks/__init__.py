"""What the product costs, beside what the machine alone would cost, measured in one run."""

import sys
from pathlib import Path

# What tests and benchmarks share is imported by the names that it has in tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
