"""kill -9 of the worker, of Terraform, or of both, at every call to Proxmox VE of a create and of a
destroy: the session comes to what was wanted, or fails with a reason; once it is deleted nothing is
left, on the cluster or with us."""

HELD_S = 30.0
NUMBER, TEMPLATE = r"/qemu/2\d{4}", "/qemu/9000"
TASK = r"/tasks/UPID[^/]*:{kind}:{vmid}:[^/]*/status"

Point = tuple[str, str, int]  # method, path, the n-th such call of a life


def task(kind: str, vmid: str = r"2\d{4}") -> str:
    return TASK.format(kind=kind, vmid=vmid)


# Terraform is at work when these come in.
CREATE_BY_TERRAFORM: list[Point] = [
    ("POST", f"{TEMPLATE}/clone$", 1),
    ("GET", task("qmclone", "9000"), 1),
]
