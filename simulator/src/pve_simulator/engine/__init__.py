"""The simulated cluster: a discrete-event model on simpy that does no input or output.

One thread runs it, so nothing in here needs a lock of Python's; the locks it has are Proxmox VE's.
"""
