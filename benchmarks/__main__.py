"""`python -m benchmarks [NAME...]`: all benchmarks, or those whose name begins with a NAME."""

import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable

from benchmarks import burst, control, lxd, proxmox, terraform
from benchmarks.frame import Row, write

Benchmark = Callable[[], list[Row]]
ALL: dict[str, Benchmark] = {
    **control.BENCHMARKS,
    **lxd.BENCHMARKS,
    **burst.BENCHMARKS,
    **proxmox.BENCHMARKS,
    **terraform.BENCHMARKS,
}


def main(names: list[str]) -> int:
    """Run, print a line per row, write build/bench.json; 1 if a goal was missed."""
    chosen = {name: run for name, run in ALL.items() if _is_chosen(name, names)}
    if not chosen:
        print(f"No benchmark is called {' '.join(names)}. There are: {' '.join(ALL)}")
        return 2
    rows: list[Row] = []
    for name, run in chosen.items():
        print(f"# {name}", file=sys.stderr, flush=True)
        rows += _run(name, run)
        path = write(rows, _about())
    print("\n".join(row.line() for row in rows))
    print(f"# {path}", file=sys.stderr)
    return 0 if all(row.holds for row in rows) else 1


def _is_chosen(name: str, names: list[str]) -> bool:
    return not names or any(name.startswith(given) for given in names)


def _run(name: str, run: Benchmark) -> list[Row]:
    """A benchmark that breaks is a goal missed; the others still run."""
    begun = time.monotonic()
    try:
        return run()
    except Exception:
        traceback.print_exc()
        return [Row(name, float("nan"), "broke", goal=0.0)]
    finally:
        print(f"# {name} took {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def _about() -> dict[str, object]:
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),  # of the last minute: others at work spoil figures
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped, too
    sys.exit(main(sys.argv[1:]))
