"""The worlds in examples/ do what their first lines say."""

from pathlib import Path

from lab import Api
from pve_simulator import VirtualSimulator

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_each_example_has_a_template_to_clone_from():
    for path in sorted(EXAMPLES.glob("*.yaml")):
        with VirtualSimulator(path) as sim:
            assert Api(sim).clone(100, full=0) == "OK", path.name
            Api(sim).up(100)


def test_the_token_of_the_cluster_clones_into_its_pool_alone():
    with VirtualSimulator(EXAMPLES / "cluster.yaml") as sim:
        token = ("ada@pve!desks", "6d0f1c1e-3a55-4c0e-9b7a-2f2c0c1f7a10")
        clone = "/nodes/pve1/qemu/9000/clone"

        outside = sim.call("POST", clone, {"newid": 100}, token=token)
        inside = sim.call(
            "POST", clone, {"newid": 100, "pool": "desks", "target": "pve3"}, token=token
        )
        sim.run(sim.now_s + 5)
        start = sim.call("POST", "/nodes/pve3/qemu/100/status/start", token=token)

    assert (outside.status, inside.status, start.status) == (403, 200, 200)
