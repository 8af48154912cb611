"""Sentences that a real Proxmox VE 8.4 or its two Terraform providers said, and what they mean."""

import pytest

from daas.errors import (
    Congested,
    NoCapacity,
    NumberTaken,
    Refused,
    TemplateMissing,
    Unreachable,
)
from daas.providers.proxmox import errors
from daas.providers.proxmox.errors import Absent, AgentAway, Glitch, InUse, Locked, NotRunning

SAID = [
    ("can't lock file '/var/lock/qemu-server/lock-401.conf' - got timeout", Congested),
    ("clone failed: cfs-lock 'storage-local' error: got lock request timeout", Congested),
    ("unable to create image: 'storage-local'-locked command timed out - got timeout", Congested),
    ("unable to create image: got lock timeout - aborting command", Congested),
    ("cluster not ready - no quorum?", Unreachable),
    (
        "unable to open file '/etc/pve/nodes/pve1/qemu-server/1.conf.tmp.1' - Permission denied",
        Unreachable,
    ),
    ("hostname lookup 'nope' failed - failed to get address info for: nope", Unreachable),
    ('Post "https://10.0.0.1:8006/": dial tcp 10.0.0.1:8006: connect: refused', Unreachable),
    ("received an HTTP 595 response - Reason: Connection refused", Unreachable),
    ("clone failed: unable to create image: No space left on device", Refused),
    ('lvcreate error: Volume group "pve" has insufficient free space (10 extents)', Refused),
    ("start failed: cannot allocate memory", NoCapacity),
    ("unable to create VM 401: config file already exists", NumberTaken),
    ("unable to find configuration file for VM 9000 on node 'pve1'", TemplateMissing),
    ("Configuration file 'nodes/pve1/qemu-server/401.conf' does not exist", Absent),
    ("VM is locked (snapshot)", Locked),
    ("got no worker upid - start worker failed", Glitch),
    ("unable to open file - No such file or directory", Glitch),
    ("QEMU guest agent is not running", AgentAway),
    ("No QEMU guest agent configured", Refused),
    ("VM 401 is not running", NotRunning),
    ("base volume 'local:9000/base-9000-disk-0.qcow2' is still in use by linked cloned", InUse),
    ("something nobody has seen", errors.Unexplained),
]


@pytest.mark.parametrize(("said", "kind"), SAID)
def test_a_sentence_means_one_thing(said: str, kind: type[Exception]) -> None:
    assert type(errors.meaning(said)) is kind or isinstance(errors.meaning(said), kind)
    assert errors.is_known(said) is (kind is not errors.Unexplained)


def test_a_lock_says_what_holds_it() -> None:
    error = errors.meaning("VM is locked (clone)")

    assert isinstance(error, Locked) and error.lock == "clone"


@pytest.mark.parametrize(
    ("said", "right", "path"),
    [
        ("Permission check failed (/vms/9000, VM.Clone)", "VM.Clone", "/vms/9000"),
        (
            "Permission check failed (/vms/401, VM.GuestAgent.Audit|VM.GuestAgent.Unrestricted)",
            "VM.GuestAgent.Audit or VM.GuestAgent.Unrestricted",
            "/vms/401",
        ),
        (
            "error cloning VM: received an HTTP 403 response - Reason: Permission check failed "
            "(/storage/local, Datastore.AllocateSpace)",
            "Datastore.AllocateSpace",
            "/storage/local",
        ),
    ],
)
def test_a_missing_privilege_is_named_with_its_path(said: str, right: str, path: str) -> None:
    for error in (errors.refusal(403, said, "POST x"), errors.meaning(said)):
        assert isinstance(error, Refused)
        assert f"the privilege {right} on {path}" in str(error)


def test_a_refusal_without_a_privilege_says_where_to_look() -> None:
    error = errors.refusal(403, "Permission check failed", "POST nodes/pve1/qemu/9000/clone")

    assert "daas doctor" in str(error) and "nodes/pve1/qemu/9000/clone" in str(error)


@pytest.mark.parametrize("said", ["No ticket", "Authentication failed!", ""])
def test_an_expired_token_is_said_to_be_one(said: str) -> None:
    error = errors.refusal(401, said, "GET nodes")

    assert isinstance(error, Refused)
    assert "has expired, is unknown" in str(error) and "DAAS_PROXMOX_TOKEN_ID" in str(error)


def test_a_dead_node_is_named() -> None:
    error = errors.refusal(595, "Connection refused", "GET nodes/pve2/qemu/710/config")

    assert isinstance(error, Unreachable) and "node pve2" in error.why


def test_a_bad_parameter_is_named() -> None:
    said = {"newid": "type check ('integer') failed - got 'abc'\n"}
    error = errors.refusal(400, "Parameter verification failed.", "POST x", said)

    assert "newid: type check ('integer') failed - got 'abc'" in str(error)


def test_a_changed_certificate_says_what_to_check() -> None:
    error = errors.meaning("tls: failed to verify certificate: x509: certificate signed by unknown")

    assert "DAAS_PROXMOX_CA_FILE" in str(error)
