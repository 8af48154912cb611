"""`python -m pve_simulator`."""

from pve_simulator.cli import main

main()
