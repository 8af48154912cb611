"""The command `pve-simulator`."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from pve_simulator.library import Simulator
from pve_simulator.replay import replay
from pve_simulator.replay.report import report


def main() -> None:
    parser = argparse.ArgumentParser(prog="pve-simulator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_serve(commands.add_parser("serve", help="serve the API of a world until interrupted"))
    _add_replay(commands.add_parser("replay", help="play a recording against a fresh simulator"))
    options = parser.parse_args()
    sys.exit(options.run(options))


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", type=Path, help="world file; without it one node, no VMs")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8006, help="of the first node (0: any)")
    parser.add_argument("--latencies", help="profile: real, measured, fast")
    parser.add_argument("--guests", help="plain, lxd, or module:Class")
    parser.add_argument("--seed", type=int, help="of all dice; the world file's otherwise")
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    simulator = Simulator(
        options.world,
        latencies=options.latencies,
        guests=options.guests,
        seed=options.seed,
        port=options.port,
        host=options.host,
    )
    for node in simulator.cluster.nodes:
        print(f"{node:<10} {simulator.url_of(node)}")
    print(f"{'ca':<10} {simulator.ca_file}")
    print(f"{'token':<10} {simulator.token_id}={simulator.token_secret}", flush=True)
    stopped.wait()
    simulator.close()
    return 0


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", type=Path, required=True, help="the cluster it was made on")
    parser.add_argument("recording", type=Path, help="one exchange a line, as JSON")
    parser.set_defaults(run=_replay)


def _replay(options: argparse.Namespace) -> int:
    try:
        outcome = replay(options.world, options.recording)
    except (OSError, ValueError) as error:
        print(f"pve-simulator replay: {error}", file=sys.stderr)
        return 2
    print(report(outcome))
    return 0 if outcome.matches else 1


if __name__ == "__main__":
    main()
