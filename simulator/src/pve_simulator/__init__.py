"""A Proxmox VE API server without Proxmox VE: for testing what talks to one."""

from pve_simulator.library import Simulator, SimulatorFault, VirtualSimulator
from pve_simulator.world import World

__all__ = ["Simulator", "SimulatorFault", "VirtualSimulator", "World"]
