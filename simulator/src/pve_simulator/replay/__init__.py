"""Replay: the requests of a recording, at their times, against a simulated cluster.

Everything that is answered is computed by the simulator. The recording is the source of what no
API tells and no simulator can know: who asked, how long a task took, when a guest came up.
"""

from pve_simulator.replay.search import Outcome, replay

__all__ = ["Outcome", "replay"]
