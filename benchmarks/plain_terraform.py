"""The same machines by Terraform alone, as people do it: one `terraform apply` for all of them.
None of the product's code takes part."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests.e2e.cloud import Cloud

PARALLEL = 10
FIRST = 25000
APPLY_S = 900
MIRROR = """
provider_installation {
  filesystem_mirror {
    path = "PATH"
  }
}
"""


def apply(site: Cloud, count: int) -> float:
    """Seconds until `count` machines run, or some of them failed; then they are gone again."""
    with tempfile.TemporaryDirectory(prefix="daas-plain-") as folder:
        Path(folder, "main.tf.json").write_text(json.dumps(_modules(site, count)))
        Path(folder, "cli.tfrc").write_text(
            MIRROR.replace("PATH", site.product.environment["DAAS_TF_MIRROR"])
        )
        _terraform(site, folder, "init")
        begun = time.monotonic()
        _terraform(site, folder, "apply", "-auto-approve", f"-parallelism={PARALLEL}")
        took_s = time.monotonic() - begun
        _terraform(site, folder, "destroy", "-auto-approve", "-parallelism=4")
    return took_s


def _modules(site: Cloud, count: int) -> dict[str, object]:
    return {
        "module": {
            f"desktop{n}": {
                "source": site.product.environment["TERRAFORM_DIR"],
                **site.variables(),
                "vm_name": f"plain-{n}",
                "vmid": FIRST + n,
                "node": f"pve{n % len(site.sim.cluster.nodes) + 1}",
            }
            for n in range(count)
        }
    }


def _terraform(site: Cloud, folder: str, *args: str) -> None:
    ours = {"TF_CLI_CONFIG_FILE": f"{folder}/cli.tfrc", "SSL_CERT_FILE": site.sim.ca_file}
    command = ["terraform", *args, "-input=false", "-no-color"]
    environment = {**os.environ, **ours}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=APPLY_S)
