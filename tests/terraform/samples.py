"""What both providers say when Proxmox refuses: taken from real runs against the simulator, kept in
tests/fixtures/terraform/diagnostics.json for whoever has to understand them.

    python -m terraform.samples      (in tests/; DAAS_TF_MIRROR names a mirror that holds telmate's)
"""

import json
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from daas.providers.terraform.errors import Diagnostic, TerraformFailed
from support.terraform import ROOT, Lab, cluster, mirror_of, programs

FILE = ROOT / "tests/fixtures/terraform/diagnostics.json"
POOR = "daas@pve!poor"
SECRET = "1c9b7b1e-0000-4000-8000-000000000000"


def clone_lock_timeout(lab: Lab) -> list[Diagnostic]:
    """Each clone holds the storage's lock for 6 s; the third has waited for 10 s by then."""
    lab.sim.faults.set_latency("clone.linked", 6.0)
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda number: failure(lab, number), range(20001, 20005)))
    return next(one for one in said if "timeout" in str(one))


def volume_left_by_a_timeout(lab: Lab) -> list[Diagnostic]:
    """bpg asks again after a timeout, and finds what the first call had made."""
    text = "disk image '/var/lib/vz/images/20000/vm-20000-cloudinit.qcow2' already exists"
    lab.sim.faults.storm(method="PUT", path="/config", text=text, times=9)
    return failure(lab)


def missing_privilege(lab: Lab) -> list[Diagnostic]:
    lab.secrets = {"token_secret": SECRET}
    return failure(lab, token_id=POOR)


def token_expired(lab: Lab) -> list[Diagnostic]:
    lab.sim.faults.expire_token(lab.sim.token_id)
    return failure(lab)


def vmid_taken(lab: Lab) -> list[Diagnostic]:
    lab.apply(20000)
    return failure(lab, 20000, name="desktop-other")


def template_missing(lab: Lab) -> list[Diagnostic]:
    return failure(lab, template_vmid=9999)


def storage_full(lab: Lab) -> list[Diagnostic]:
    lab.sim.faults.fill_storage("local")
    return failure(lab)


def certificate_changed(lab: Lab) -> list[Diagnostic]:
    lab.sim.faults.change_certificate()
    return failure(lab)


def node_does_not_answer(lab: Lab) -> list[Diagnostic]:
    lab.sim.faults.storm(path="/nodes/", status=595, text="Connection refused", seconds=60)
    return failure(lab)


def clone_task_failed(lab: Lab) -> list[Diagnostic]:
    lab.sim.faults.fail_task("qmclone", text="clone failed: no space left on device")
    return failure(lab)


def start_task_failed(lab: Lab) -> list[Diagnostic]:
    lab.sim.faults.fail_task("qmstart", text="start failed: QEMU exited with code 1", times=9)
    return failure(lab)


def quorum_lost(lab: Lab) -> list[Diagnostic]:
    lab.sim.faults.lose_quorum()
    return failure(lab)


def api_is_away(lab: Lab) -> list[Diagnostic]:
    return failure(lab, api_url="https://127.0.0.1:1")


CASES: list[Callable[[Lab], list[Diagnostic]]] = [
    clone_lock_timeout,
    volume_left_by_a_timeout,
    missing_privilege,
    token_expired,
    vmid_taken,
    template_missing,
    storage_full,
    certificate_changed,
    node_does_not_answer,
    clone_task_failed,
    start_task_failed,
    quorum_lost,
    api_is_away,
]


def failure(lab: Lab, number: int = 20000, name: str = "", **more: object) -> list[Diagnostic]:
    """What a run says that fails; nothing where it does not."""
    run = (name or f"desktop-{number}", lab.variables(number, **more), lab.secrets, None)
    try:
        lab.terraform.apply(*run, lambda state: None, lab.notes.append)
    except TerraformFailed as failed:
        return list(failed.diagnostics)
    return []


def take(provider: str) -> dict[str, list[dict[str, str]]]:
    taken = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder, cluster(poor()) as sim:
            said = case(Lab(programs()[0], provider, sim, Path(folder)))
        taken[case.__name__] = [{"summary": d.summary, "detail": d.detail} for d in said]
        print(provider, case.__name__, [str(one)[:150] for one in said], file=sys.stderr)
    return taken


def poor() -> Path:
    """The world of all, and a token that may not do everything."""
    return ROOT / "tests/fixtures/terraform/world.yaml"


if __name__ == "__main__":
    found = {p: take(p) for p in ("bpg", "telmate") if mirror_of(f"{p}/proxmox")}
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    FILE.write_text(json.dumps(kept | found, indent=1) + "\n")
