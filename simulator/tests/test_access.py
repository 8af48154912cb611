"""Users, tokens, roles, ACL and pools: who gets what, and in which words others are refused."""

import pytest

from pve_simulator import VirtualSimulator
from pve_simulator.world import World

JSON = "application/json;charset=UTF-8"


def world(version="8.4.21"):
    return World(
        version=version,
        access={
            "users": [{"id": "root@pam", "password": "secret"}, {"id": "ada@pve"}],
            "tokens": [
                {"id": "ada@pve!full", "secret": "1", "privsep": 0},
                {"id": "ada@pve!sep", "secret": "1"},
                {"id": "ada@pve!old", "secret": "1", "privsep": 0, "expire": 1000},
            ],
            "groups": [{"id": "ops", "users": ["ada@pve"]}],
            "pools": [{"id": "desks", "vms": [101]}],
        },
    )


@pytest.fixture
def sim():
    with VirtualSimulator(world()) as simulator:
        yield simulator


def grant(sim, path, role, **more):
    answer = sim.call("PUT", "/access/acl", {"path": path, "roles": role, **more})
    assert answer.status == 200, answer.reason


def rights(sim, token, path):
    asked = sim.call("GET", "/access/permissions", {"path": path}, token=(token, "1"))
    return asked.data[path]


def test_nobody_is_answered_after_three_seconds_with_nothing(sim):
    answer = sim.call("GET", "/version", headers={})

    assert (answer.status, answer.reason, answer.content_type, answer.body) == (
        401,
        "No ticket",
        None,
        "",
    )
    assert sim.now_s > 2.6


@pytest.mark.parametrize("token", ["ada@pve!old", "ada@pve!none", "eve@pve!t"])
def test_an_expired_or_unknown_token_fails(sim, token):
    answer = sim.call("GET", "/version", token=(token, "1"))

    assert (answer.status, answer.reason) == (401, "Authentication failed!")


def test_a_wrong_password_has_a_body_and_a_wrong_csrf_token_has_none(sim):
    wrong = sim.call("POST", "/access/ticket", {"username": "root@pam", "password": "no"})
    right = sim.call("POST", "/access/ticket", {"username": "root@pam", "password": "secret"})
    cookie = {"cookie": f"PVEAuthCookie={right.data['ticket']}"}
    change = sim.call("POST", "/pools", {"poolid": "p"}, headers=cookie)

    assert (wrong.status, wrong.reason, wrong.content_type) == (
        401,
        "authentication failure",
        JSON,
    )
    assert sim.call("GET", "/version", headers=cookie).status == 200
    assert (change.status, change.reason, change.body) == (
        401,
        "Permission denied - invalid csrf token",
        "",
    )
    csrf = {"csrfpreventiontoken": right.data["CSRFPreventionToken"]}
    assert sim.call("POST", "/pools", {"poolid": "p"}, headers=cookie | csrf).status == 200


def test_lists_are_filtered_and_objects_refused(sim):
    token = ("ada@pve!full", "1")

    assert sim.call("GET", "/cluster/resources", {"type": "vm"}, token=token).data == []
    assert sim.call("GET", "/access/permissions", token=token).data == {}
    # A token is not its user: even its own user is not in the list.
    assert sim.call("GET", "/access/users", {"full": 1}, token=token).data == []
    answer = sim.call("GET", "/nodes/pve1/qemu/9000/config", token=token)
    assert (answer.status, answer.reason) == (
        403,
        "Permission check failed (/vms/9000, VM.Audit)",
    )
    clone = sim.call("POST", "/nodes/pve1/qemu/9000/clone", {"newid": 500}, token=token)
    assert clone.reason == "Permission check failed (/vms/9000, VM.Clone)"
    grant(sim, "/vms/9000", "PVETemplateUser", users="ada@pve")
    clone = sim.call("POST", "/nodes/pve1/qemu/9000/clone", {"newid": 500}, token=token)
    assert (clone.status, clone.reason) == (403, "Permission check failed")


def test_a_separated_token_has_what_both_it_and_its_user_have(sim):
    grant(sim, "/vms", "PVEVMUser", users="ada@pve")

    assert "VM.Audit" in rights(sim, "ada@pve!full", "/vms/100")
    assert rights(sim, "ada@pve!sep", "/vms/100") == {}

    grant(sim, "/", "PVEVMAdmin", tokens="ada@pve!sep")
    assert rights(sim, "ada@pve!sep", "/vms/100") == rights(sim, "ada@pve!full", "/vms/100")


def test_the_deepest_entry_wins_and_users_override_groups(sim):
    grant(sim, "/", "PVEAuditor", groups="ops")
    grant(sim, "/vms/100", "PVETemplateUser", groups="ops")
    grant(sim, "/nodes", "PVESysAdmin", groups="ops", propagate=0)

    assert set(rights(sim, "ada@pve!full", "/vms/100")) == {"VM.Clone", "VM.Audit"}
    assert "Sys.Console" not in rights(sim, "ada@pve!full", "/nodes/pve1")
    assert rights(sim, "ada@pve!full", "/nodes")["Sys.Console"] == 0
    grant(sim, "/vms/100", "NoAccess", users="ada@pve")
    assert rights(sim, "ada@pve!full", "/vms/100") == {}


def test_a_role_on_a_pool_reaches_its_members(sim):
    grant(sim, "/pool/desks", "PVEVMUser", users="ada@pve")

    assert rights(sim, "ada@pve!full", "/vms/101")["VM.PowerMgmt"] == 0
    assert rights(sim, "ada@pve!full", "/vms/102") == {}


def test_roles_differ_between_versions():
    with VirtualSimulator(world()) as eight, VirtualSimulator(world("9.0.3")) as nine:
        old = eight.call("GET", "/access/roles/PVEVMAdmin").data
        new = nine.call("GET", "/access/roles/PVEVMAdmin").data
        grant(nine, "/vms", "PVEAuditor", users="ada@pve")
        agent = "/nodes/pve1/qemu/100/agent"
        nobody = nine.call("POST", f"{agent}/exec", {"command": "id"}, token=("ada@pve!full", "1"))

    assert "VM.Monitor" in old
    assert "VM.Monitor" not in new
    assert "VM.GuestAgent.Unrestricted" in new
    assert nobody.reason in (
        "Permission check failed (/vms/100, VM.GuestAgent.Unrestricted)",
        "Method 'POST /nodes/pve1/qemu/100/agent/exec' not implemented",
    )


def test_a_new_tokens_facts_are_answered_as_they_were_sent(sim):
    sent = sim.call("POST", "/access/users/ada@pve/token/t1", {"privsep": 1}).data
    again = sim.call("POST", "/access/users/ada@pve/token/t1")
    read = sim.call("GET", "/access/users/ada@pve/token/t1").data

    assert sent["info"] == {"privsep": "1"}
    assert sent["full-tokenid"] == "ada@pve!t1"
    assert read == {"privsep": 1, "expire": 0}
    assert (again.status, again.reason) == (400, "Parameter verification failed.")


def test_refusals_of_user_cfg_name_what_was_to_be_done(sim):
    def reason(method, where, **params):
        return sim.call(method, where, params).reason

    twice = reason("POST", "/access/users", userid="ada@pve")
    assert twice == "create user failed: user 'ada@pve' already exists"
    assert reason("PUT", "/access/users/eve@pve", comment="x") == ("no such user ('eve@pve')")
    assert reason("PUT", "/access/acl", path="/vms", roles="Nope", users="ada@pve") == (
        "ACL update failed: role 'Nope' does not exist"
    )
    assert reason("POST", "/pools", poolid="a/b") == (
        "create pool failed: parent 'a' of pool 'a/b' does not exist"
    )
    assert reason("PUT", "/pools/desks", vms="101") == (
        "update pools failed: VM 101 is already a pool member"
    )
    assert reason("POST", "/access/groups", groupid="ops") == (
        "create group failed: group 'ops' already exists"
    )
    assert reason("DELETE", "/access/roles/PVEAdmin") == (
        "auto-generated role 'PVEAdmin' cannot be deleted"
    )


def test_without_permissions_modify_one_passes_on_what_one_has(sim):
    grant(sim, "/vms/100", "PVEVMAdmin", users="ada@pve")
    token = ("ada@pve!full", "1")

    def share(role):
        params = {"path": "/vms/100", "roles": role, "users": "root@pam"}
        return sim.call("PUT", "/access/acl", params, token=token)

    assert share("PVEVMUser").status == 200
    refused = share("Administrator")
    assert refused.status == 400
    assert "superset of privileges" in refused.body
