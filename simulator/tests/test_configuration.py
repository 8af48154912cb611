"""Changes to a configuration: now or pending, with which drives, and who is told what is wrong."""

import json

import pytest


@pytest.fixture
def vm(api):
    api.clone(100, name="ada")
    return api


def pending(api) -> dict[str, dict]:
    return {row["key"]: row for row in api.get("qemu/100/pending")}


def test_put_answers_when_it_is_done_and_post_with_a_task(vm):
    put = vm.call("PUT", "qemu/100/config", name="ben", cores=3)
    post = vm.task("POST", "qemu/100/config", name="eve")

    assert (put.status, put.data) == (200, None)
    assert post == "OK"
    assert (vm.config(100)["name"], vm.config(100)["cores"]) == ("eve", 3)


def test_on_a_running_vm_what_cannot_be_plugged_waits_for_the_next_start(vm):
    vm.up(100)

    vm.call("PUT", "qemu/100/config", memory=2048, cores=4, name="eve", delete="agent")

    rows = pending(vm)
    assert rows["memory"] == {"key": "memory", "value": "1024", "pending": "2048"}
    assert rows["cores"] == {"key": "cores", "value": 2, "pending": 4}
    assert rows["agent"] == {"key": "agent", "value": "1", "delete": 1}
    assert rows["name"] == {"key": "name", "value": "eve"}
    assert vm.config(100)["memory"] == "2048", "as it will be"
    assert vm.get("qemu/100/config", current=1)["memory"] == "1024"
    vm.task("POST", "qemu/100/status/stop")
    vm.task("POST", "qemu/100/status/start")
    assert pending(vm)["memory"] == {"key": "memory", "value": "2048"}
    assert "agent" not in vm.config(100)


def test_a_pending_change_can_be_taken_back(vm):
    vm.up(100)
    vm.call("PUT", "qemu/100/config", memory=2048)

    vm.call("PUT", "qemu/100/config", revert="memory")

    assert pending(vm)["memory"] == {"key": "memory", "value": "1024"}


def test_a_stale_digest_is_refused(vm):
    digest = vm.config(100)["digest"]
    vm.call("PUT", "qemu/100/config", name="ben")

    reason = vm.refused("PUT", "qemu/100/config", name="eve", digest=digest)

    assert reason == "checksum mismatch (file change by other user?)"
    assert (
        vm.call("PUT", "qemu/100/config", name="x", digest=vm.config(100)["digest"]).status == 200
    )


def test_a_network_card_gets_an_address_and_a_password_is_never_shown(vm):
    vm.call(
        "PUT", "qemu/100/config", net0="model=virtio,bridge=vmbr0,firewall=0", cipassword="secret"
    )

    config = vm.config(100)
    assert config["net0"].startswith("virtio=BC:24:11:")
    assert config["net0"].endswith(",bridge=vmbr0,firewall=0")
    assert config["cipassword"] == "**********"
    assert pending(vm)["cipassword"]["value"] == "**********"


def test_the_cloud_init_drive_is_replaced_as_both_providers_do(vm):
    twice = vm.refused("PUT", "qemu/100/config", ide0="local:cloudinit")
    taken = vm.refused("PUT", "qemu/100/config", ide2="local:cloudinit")
    raw = vm.call("PUT", "qemu/100/config", ide2="local:cloudinit,format=raw")
    deleted = vm.call("PUT", "qemu/100/config", delete="ide2")
    again = vm.call("PUT", "qemu/100/config", ide2="file=local:cloudinit,")

    assert twice == "ide0 - cloud-init drive is already attached at 'ide2'"
    assert taken == ("disk image '/var/lib/vz/images/100/vm-100-cloudinit.qcow2' already exists")
    assert (raw.status, deleted.status, again.status) == (200, 200, 200)
    assert vm.config(100)["ide2"] == "local:100/vm-100-cloudinit.qcow2,media=cdrom"
    assert vm.config(100)["boot"] == "order=scsi0;net0"
    assert [v for v in vm.volumes() if "cloudinit" in v and "100" in v] == [
        "local:100/vm-100-cloudinit.qcow2"
    ]


def test_an_empty_value_is_read_back_as_a_blank(vm):
    vm.call("PUT", "qemu/100/config", tags="", cicustom="")

    assert (vm.config(100)["tags"], vm.config(100)["cicustom"]) == (" ", " ")


def test_tags_are_kept_once_and_shown_in_every_list_at_once(vm):
    vm.call("PUT", "qemu/100/config", tags="daas,daas;x")

    assert vm.config(100)["tags"] == "daas;x"
    assert vm.get("qemu/100/status/current")["tags"] == "daas;x"
    row = next(r for r in vm.get("/cluster/resources", type="vm") if r["vmid"] == 100)
    assert row["tags"] == "daas;x"


def test_a_new_disk_is_made_and_a_detached_one_stays_unused(vm):
    vm.call("PUT", "qemu/100/config", scsi1="local:3,iothread=1")
    vm.call("PUT", "qemu/100/config", delete="scsi1")

    assert vm.config(100)["unused0"] == "local:100/vm-100-disk-1.raw"
    vm.call("PUT", "qemu/100/config", delete="unused0")
    assert "unused0" not in vm.config(100)
    assert "local:100/vm-100-disk-1.raw" not in vm.volumes()


def test_a_disk_that_is_named_again_keeps_its_size(vm):
    volume = vm.config(100)["scsi0"].split(",")[0]

    vm.call("PUT", "qemu/100/config", scsi0=f"{volume},replicate=0")

    assert vm.config(100)["scsi0"] == f"{volume},replicate=0,size=8G"


def test_a_disk_grows(vm):
    assert vm.task("PUT", "qemu/100/resize", disk="scsi0", size="+2G") == "OK"
    assert vm.config(100)["scsi0"].endswith("size=10G")
    assert vm.task("PUT", "qemu/100/resize", disk="scsi0", size="12G") == "OK"
    assert vm.get("qemu/100/status/current")["maxdisk"] == 12 << 30
    assert vm.task("PUT", "qemu/100/resize", disk="ide2", size="+1G") == "you can't resize a cdrom"


def test_a_boot_order_names_devices_that_are_there(vm):
    reason = vm.refused("PUT", "qemu/100/config", boot="order=scsi7")

    assert reason == "invalid bootorder: device 'scsi7' does not exist'"


@pytest.mark.parametrize(
    "params, errors",
    [
        ({"newid": "abc"}, {"newid": "type check ('integer') failed - got 'abc'"}),
        ({}, {"newid": "property is missing and it is not optional"}),
        ({"newid": 600, "name": "bad name!"},
         {"name": "invalid format - value does not look like a valid DNS name\n"}),
    ],
)  # fmt: skip
def test_bad_parameters_are_told_each(api, params, errors):
    answer = api.call("POST", "qemu/9000/clone", **params)

    assert (answer.status, answer.reason) == (400, "Parameter verification failed.")
    assert json.loads(answer.body)["errors"] == errors


def test_args_and_lock_need_root_in_person(vm):
    assert vm.refused("PUT", "qemu/100/config", args="-foo") == "only root can set 'args' config"
    assert vm.refused("PUT", "qemu/100/config", lock="backup") == "only root can set 'lock' config"
    skipped = vm.call("DELETE", "qemu/100", skiplock=1)
    assert json.loads(skipped.body)["errors"] == {"skiplock": "Only root may use this option."}


def test_a_vm_is_created_from_nothing_and_made_a_template(api):
    made = api.task(
        "POST", "qemu", vmid=200, name="t", memory=512, scsi0="local:2,format=qcow2",
        ide2="local:cloudinit", net0="virtio,bridge=vmbr0", agent=1,
    )  # fmt: skip

    config = api.config(200)
    assert made == "OK"
    assert config["scsi0"] == "local:200/vm-200-disk-0.qcow2,size=2G"
    assert config["boot"] == "order=scsi0;ide2;net0"
    assert config["smbios1"].startswith("uuid=") and config["vmgenid"]
    assert api.task("POST", "qemu/200/template") == "OK"
    assert api.config(200)["scsi0"] == "local:200/base-200-disk-0.qcow2,size=2G"
    assert api.config(200)["template"] == 1
    assert api.clone(201, 200, full=0) == "OK"
    assert api.refused("POST", "qemu/200/template") == "you can't convert a template to a template"


def test_an_id_that_is_taken_is_refused_before_there_is_a_task(api):
    reason = api.refused("POST", "/nodes/pve2/qemu", vmid=9000)

    assert reason == "unable to create VM 9000 - VM 9000 already exists on node 'pve1'"


def test_a_create_that_fails_leaves_nothing(sim, api):
    sim.faults.fill_storage("local")

    end = api.task("POST", "qemu", vmid=200, scsi0="local:2", ide2="local:cloudinit")

    assert end.startswith("unable to create VM 200 - unable to create image")
    assert "200.conf" in api.refused("GET", "qemu/200/config")
    assert not [volume for volume in api.volumes() if "200" in volume]


def test_a_disk_is_imported_from_an_image(api):
    url = "https://example.org/noble.qcow2#size=3G"
    api.task("POST", "storage/local/download-url", content="import", filename="n.qcow2", url=url)

    end = api.task("POST", "qemu", vmid=200, scsi0="local:0,import-from=local:import/n.qcow2")

    assert end == "OK"
    assert api.config(200)["scsi0"] == "local:200/vm-200-disk-0.qcow2,size=3G"
    wrong = api.call("POST", "qemu", vmid=201, scsi0="local:5,import-from=local:import/n.qcow2")
    assert "requires special syntax" in json.loads(wrong.body)["errors"]["scsi0"]
