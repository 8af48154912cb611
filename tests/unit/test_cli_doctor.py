"""Each check of `daas doctor`, provoked; and what it says where all is well."""

import pytest

from daas.cli.doctor import host, install, lxd, v1
from daas.cli.doctor.install import Built, Facts
from daas.cli.doctor.v1 import Trace
from daas.errors import Refused, Unreachable

NOW_S = 1_800_000_000.0
POOL = {"driver": "btrfs"}
SPACE = {"space": {"used": 10, "total": 100}}
BRIDGE = {"managed": True, "status": "Created", "config": {"ipv4.address": "10.88.0.1/24"}}
HEALTHY = {
    "/1.0": {"auth": "trusted", "environment": {"server_version": "5.0.2"}},
    "/1.0/storage-pools/daas": POOL,
    "/1.0/storage-pools/daas/resources": SPACE,
    "/1.0/networks/daasbr0": BRIDGE,
}


def look(**changed):
    answers = {**HEALTHY, **{path.replace("__", "/"): a for path, a in changed.items()}}

    def ask(path):
        answer = answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return {f.id: f for f in lxd.look(ask, "daas", "daasbr0")}


def nothing(program, path):
    return None


def everything(program, path):
    return f"/usr/bin/{program}"


# ---- LXD


def test_a_healthy_lxd_has_nothing_to_complain_of():
    assert {f.result for f in look().values()} == {"ok"}


def test_no_socket_is_one_finding_with_its_remedy():
    away = Unreachable(2.0, "LXD: there is no socket at /var/lib/lxd/unix.socket")

    found = look(**{"/1.0": away})

    assert list(found) == ["lxd.socket"] and found["lxd.socket"].result == "fail"
    assert "there is no socket" in found["lxd.socket"].message
    assert "deploy/lxd-up" in found["lxd.socket"].remedy


def test_a_user_whom_lxd_does_not_trust_is_told_the_group():
    found = look(**{"/1.0": {"auth": "untrusted"}})

    assert found["lxd.socket"].result == "fail" and "group" in found["lxd.socket"].remedy


@pytest.mark.parametrize(
    "path, answer, id_, result",
    [
        ("/1.0/storage-pools/daas", Refused("not found"), "lxd.pool", "fail"),
        ("/1.0/storage-pools/daas", {"driver": "dir"}, "lxd.pool", "warn"),
        (
            "/1.0/storage-pools/daas/resources",
            {"space": {"used": 90, "total": 100}},
            "lxd.pool",
            "warn",
        ),
        (
            "/1.0/storage-pools/daas/resources",
            {"space": {"used": 99, "total": 100}},
            "lxd.pool",
            "fail",
        ),
        ("/1.0/networks/daasbr0", Refused("not found"), "lxd.bridge", "fail"),
        (
            "/1.0/networks/daasbr0",
            {"managed": True, "config": {"ipv4.address": "none"}},
            "lxd.bridge",
            "fail",
        ),
        ("/1.0/networks/daasbr0", {**BRIDGE, "status": "Errored"}, "lxd.bridge", "fail"),
    ],
)
def test_what_is_wrong_with_pool_or_bridge_is_named_with_a_remedy(path, answer, id_, result):
    found = look(**{path: answer})

    assert found[id_].result == result and found[id_].remedy


# ---- the machine


@pytest.mark.parametrize("value, result", [(128, "fail"), (1024, "ok"), (None, "warn")])
def test_kernel_limits_are_compared_with_what_desktops_need(value, result):
    found = {f.id: f for f in host.kernel_limits(lambda name: value)}

    assert found["kernel.max_user_instances"].result == result


@pytest.mark.parametrize("free, result", [(1.0, "fail"), (5.0, "warn"), (50.0, "ok")])
def test_a_disk_that_fills_is_seen_before_it_is_full(free, result):
    assert host.disk("/var/lib/daas", free).result == result


@pytest.mark.parametrize(
    "ahead_s, is_synchronized, result",
    [(0.1, True, "ok"), (0.1, None, "ok"), (0.1, False, "warn"), (90, True, "fail")],
)
def test_a_clock_that_goes_wrong_is_told(ahead_s, is_synchronized, result):
    assert host.clock(ahead_s, is_synchronized).result == result


def test_missing_programs_are_named_with_their_packages():
    found = host.programs("/usr/bin", nothing)

    assert found.result == "fail" and "mmdebstrap" in found.message
    assert "openssh-client" in found.remedy
    assert host.programs("/usr/bin", everything).result == "ok"


# ---- the installation


@pytest.mark.parametrize(
    "is_at, needed, result, remedy",
    [
        ("0001", "0001", "ok", ""),
        (None, "0001", "fail", "daas init"),
        ("0001", "0002", "fail", "daas db upgrade"),
    ],
)
def test_a_schema_of_another_version_is_told(is_at, needed, result, remedy):
    found = install.schema(is_at, needed)

    assert found.result == result and remedy in found.remedy


@pytest.fixture
def secrets(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    for name in ("key", "instance", "token"):
        (folder / name).touch(mode=0o600)
    return folder


def test_secrets_that_only_we_can_read_are_fine(secrets):
    assert install.secrets(secrets).result == "ok"


def test_secrets_that_others_can_read_fail(secrets):
    secrets.chmod(0o755)
    (secrets / "key").chmod(0o644)

    found = install.secrets(secrets)

    assert found.result == "fail" and "key" in found.message and "chmod" in found.remedy


def test_an_open_file_behind_a_closed_door_is_a_warning(secrets):
    (secrets / "key").chmod(0o644)

    assert install.secrets(secrets).result == "warn"


def test_missing_secrets_fail(secrets):
    (secrets / "key").unlink()

    assert install.secrets(secrets).result == "fail"


def test_a_copied_installation_is_told():
    assert install.same_instance("abc", "def").result == "warn"
    assert install.same_instance("abc", "abc").result == "ok"


@pytest.mark.parametrize("overdue_s, result", [(0, "ok"), (30, "ok"), (300, "fail")])
def test_a_worker_that_does_not_come_round_is_missed(overdue_s, result):
    assert install.worker(Facts(NOW_S, overdue_s)).result == result


@pytest.mark.parametrize(
    "built, images, result",
    [
        ([Built("desk", "img", NOW_S - 60)], {"img": ""}, "ok"),
        ([Built("desk", "img", NOW_S - 60)], None, "ok"),
        ([Built("desk", "img", NOW_S - 60)], {}, "fail"),
        ([Built("desk", "img", NOW_S - 40 * 86400)], {"img": ""}, "warn"),
        ([Built("desk", None, None)], {}, "warn"),
        ([], {}, "fail"),
        ([Built("desk", "img", NOW_S - 60)], {"img": "is no template: qm template 9"}, "fail"),
    ],
)
def test_the_default_template_is_built_there_and_young(built, images, result):
    (found,) = install.templates(Facts(NOW_S, 0.0, built), images, "desk")

    assert found.result == result and bool(found.remedy) == (result != "ok")


def test_a_template_nobody_asked_for_need_not_be_built():
    built = [Built("desk", "img", NOW_S), Built("other", None, None)]

    found = install.templates(Facts(NOW_S, 0.0, built), {"img": ""}, "desk")

    assert [f.result for f in found] == ["ok", "ok"]


# ---- the four errors of version 1.0


def test_without_a_trace_none_of_the_four_is_found():
    found = v1.look([Trace("session/desktop-a", "step finished")], "/usr/bin", False, nothing)

    assert [f.result for f in found] == ["ok"] * 4


def test_terraform_that_is_not_on_the_services_path_is_found():
    found = v1.terraform([], "/opt/daas/bin", True, nothing)

    assert found.result == "fail" and "/opt/daas/bin" in found.message
    assert "orchestrator-daas.service" in found.remedy and "daemon-reload" in found.remedy
    assert v1.terraform([], "/usr/bin", True, everything).result == "ok"


@pytest.mark.parametrize(
    "said",
    [
        "FileNotFoundError: [Errno 2] No such file or directory: 'terraform'",
        "terraform (not found: install it, or add its folder to PATH) ended with exit code 127.",
    ],
)
def test_a_session_that_missed_terraform_counts_too(said):
    traces = [Trace("session/desktop-a", said)]

    assert v1.terraform(traces, "/usr/bin", False, nothing).result == "fail"
    assert v1.terraform(traces, "/usr/bin", False, everything).result == "ok"


@pytest.mark.parametrize(
    "check, said",
    [
        (v1.ansible_host, "The task includes an option with an undefined variable: "
         "'ansible_host' is undefined"),
        (v1.ansible_host, "ERROR: ansible_host not defined"),
        (v1.realm_join, "realm join failed"),
        (v1.realm_join, "realm: Couldn't join realm: Failed to join the domain"),
        (v1.realm_join, "realm: No such realm found: proto.lan"),
        (v1.pam_mount, "(pam_mount.c:522): mount failed"),
        (v1.pam_mount, "pam_mount: mount failed"),
        (v1.pam_mount, "mount error(13): Permission denied"),
    ],
)  # fmt: skip
def test_each_of_the_others_is_known_by_what_a_session_said(check, said):
    traces = [Trace("session/desktop-a", said), Trace("session/desktop-b", "all is well")]

    found = check(traces)

    assert found.result == "fail" and "session/desktop-a" in found.message and found.remedy


@pytest.mark.parametrize(
    "text, path",
    [
        ("[Service]\nEnvironment=PATH=/usr/bin:/bin\n", "/usr/bin:/bin"),
        ('[Service]\nEnvironment="PATH=/opt/x"\n', "/opt/x"),
        ("Environment=A=1 PATH=/opt/x B=2\n", "/opt/x"),
        ("Environment=PATH=/a\nEnvironment=PATH=/b\n", "/b"),
        ("#Environment=PATH=/a\n", None),
        ("ExecStart=/bin/true\n", None),
    ],
)
def test_the_path_of_a_unit_is_read_as_systemd_reads_it(text, path):
    assert v1.path_of_unit(text) == path
