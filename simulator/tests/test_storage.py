"""Storages: what is on them, what is put there and taken away, and when they are full."""

import pytest

from lab import GIB, Api, two_nodes
from pve_simulator import VirtualSimulator
from pve_simulator.world import StorageSpec


def test_a_storage_says_what_is_left(sim, api):
    before = {row["storage"]: row for row in api.get("storage")}["local"]
    api.task("POST", "qemu", vmid=200, scsi0="local:2")
    full = api.clone(201, 200, full=1)
    sim.faults.fill_storage("local")
    after = api.get("storage/local/status")

    assert full == "OK"
    assert before["total"] == 250 * GIB
    assert before["avail"] == before["total"] - before["used"]
    assert (before["active"], before["enabled"], before["shared"]) == (1, 1, 0)
    assert after["avail"] == 0


def test_a_full_storage_fails_the_allocation_in_the_task(sim, api):
    sim.faults.fill_storage("local")

    end = api.clone(100)

    assert end.startswith("clone failed: unable to create image")
    assert end.endswith("No space left on device")
    assert "100.conf" in api.refused("GET", "qemu/100/config")
    sim.faults.empty_storage("local")
    assert api.clone(100) == "OK"


def test_content_lists_volumes_with_owner_and_parent(api):
    api.clone(100)

    rows = {row["volid"]: row for row in api.get("storage/local/content", vmid=100)}

    disk = rows["local:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2"]
    assert disk["parent"] == "../9000/base-9000-disk-0.qcow2"
    assert (disk["vmid"], disk["size"], disk["format"]) == (100, 8 * GIB, "qcow2")
    assert "local:100/vm-100-cloudinit.qcow2" in rows
    assert api.on("pve2").get("storage/local/content") == [], "local means: of each node"


def test_a_volume_is_deleted_by_a_task(api):
    url = "https://example.org/x.iso"
    end = api.task("POST", "storage/local/download-url", content="iso", filename="x.iso", url=url)
    assert end == "OK"
    assert api.volumes()[-1] == "local:iso/x.iso"

    deleted = api.task("DELETE", "storage/local/content/local:iso/x.iso")
    again = api.task("DELETE", "storage/local/content/local:iso/x.iso")

    assert deleted == "OK"
    assert "local:iso/x.iso" not in api.volumes()
    assert again == "OK"  # Proxmox VE only warns of what is gone already


def test_a_base_in_use_is_not_deleted(api):
    api.clone(100)

    end = api.task("DELETE", "storage/local/content/local:9000/base-9000-disk-0.qcow2")

    assert end == "base volume '9000/base-9000-disk-0.qcow2' is still in use by linked clones"


@pytest.mark.parametrize(
    "content, name, reason",
    [
        ("iso", "x.txt", "Parameter verification failed."),
        ("import", "x.iso", "Parameter verification failed."),
        ("vztmpl", "x.tar.gz", "storage 'local' is not configured for content-type 'vztmpl'"),
    ],
)
def test_downloads_of_the_wrong_kind_are_refused(api, content, name, reason):
    url = f"https://example.org/{name}"

    refused = api.refused(
        "POST", "storage/local/download-url", content=content, filename=name, url=url
    )

    assert refused == reason


def test_a_download_that_is_not_there_fails_in_its_task(api):
    url = "https://example.org/missing.qcow2"

    end = api.task(
        "POST", "storage/local/download-url", content="import", filename="m.qcow2", url=url
    )

    assert end.startswith("download failed: 404 Not Found")


def test_disks_that_nothing_names_go_only_when_asked(api):
    for vmid in (100, 101):
        api.clone(vmid)
        size, name = "1G", f"vm-{vmid}-stray.qcow2"
        params = {"vmid": vmid, "filename": name, "size": size, "format": "qcow2"}
        made = api.call("POST", "storage/local/content", **params)
        assert made.data == f"local:{vmid}/vm-{vmid}-stray.qcow2"

    api.task("DELETE", "qemu/100")
    api.task("DELETE", "qemu/101", **{"destroy__unreferenced__disks": 1})

    assert [v for v in api.volumes() if "stray" in v] == ["local:100/vm-100-stray.qcow2"]


def test_storage_cfg_takes_and_gives_up_storages(api):
    added = api.call(
        "POST", "/storage", storage="more", type="dir", path="/mnt/more", shared=1, content="images"
    )

    assert added.data == {"storage": "more", "type": "dir"}
    assert api.clone(100, full=1, storage="more") == "OK"
    assert api.config(100)["scsi0"] == "more:100/vm-100-disk-0.qcow2,size=8G"
    assert api.get("/storage/more")["path"] == "/mnt/more"
    assert "already defined" in api.refused(
        "POST", "/storage", storage="more", type="dir", path="/x"
    )
    api.task("DELETE", "qemu/100")
    assert api.call("DELETE", "/storage/more").status == 200
    assert api.refused("GET", "/storage/more") == "storage 'more' does not exist"


def test_block_storages_name_their_volumes_without_files():
    world = two_nodes()
    for kind in ("lvmthin", "zfspool", "rbd"):
        world.storages.append(StorageSpec(kind, type=kind, content=["images"]))
    with VirtualSimulator(world) as sim:
        api = Api(sim)
        named = {}
        for number, kind in enumerate(("lvmthin", "zfspool", "rbd"), 200):
            api.task("POST", "qemu", vmid=number, scsi0=f"{kind}:1")
            api.task("POST", f"qemu/{number}/template")
            api.clone(number + 100, number, full=0)
            named[kind] = api.config(number + 100)["scsi0"]

        assert named == {
            "lvmthin": "lvmthin:vm-300-disk-0,size=1G",
            "zfspool": "zfspool:base-201-disk-0/vm-301-disk-0,size=1G",
            "rbd": "rbd:base-202-disk-0/vm-302-disk-0,size=1G",
        }
        assert "still in use" in api.task("DELETE", "qemu/200")


def test_a_disk_moves_to_another_storage(api):
    api.clone(100)

    kept = api.task("POST", "qemu/100/move_disk", disk="scsi0", storage="shared")
    gone = api.task("POST", "qemu/100/move_disk", disk="scsi0", storage="local", delete=1)

    assert (kept, gone) == ("OK", "OK")
    config = api.config(100)
    assert config["scsi0"] == "local:100/vm-100-disk-1.qcow2,size=8G"
    assert config["unused0"] == "local:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2"
    assert not [volume for volume in api.volumes("shared") if "vm-100-" in volume]
    same = api.refused("POST", "qemu/100/move_disk", disk="scsi0", storage="local")
    assert same == "you can't move to the same storage with same format"


def test_a_file_is_downloaded_once_and_again_only_if_it_is_the_same(api):
    def download(**more):
        url = {"url": "https://example.org/n.qcow2", "content": "import", "filename": "n.qcow2"}
        return api.task("POST", "storage/local/download-url", **url, **more)

    sums = [{"checksum": letter * 64, "checksum__algorithm": "sha256"} for letter in "ab"]

    assert download(**sums[0]) == "OK"
    assert download(**sums[0]) == "OK"
    assert download() == "refusing to override existing file '/var/lib/vz/import/n.qcow2'"
    assert download(**sums[1]).startswith("checksum mismatch: got 'aaa")


def test_a_volume_is_allocated_by_name_and_size(api):
    def allocate(**params):
        return api.call("POST", "storage/local/content", vmid=100, **params)

    assert allocate(filename="vm-100-x.raw", size="1G").data == "local:100/vm-100-x.raw"
    assert allocate(filename="vm-100-y.raw", size=1024).data == "local:100/vm-100-y.raw"
    assert allocate(filename="vm-100-z.raw", size="1G", format="qcow2").status == 400
    sizes = {row["volid"]: row["size"] for row in api.get("storage/local/content", vmid=100)}
    assert sizes == {"local:100/vm-100-x.raw": 1 << 30, "local:100/vm-100-y.raw": 1 << 20}
