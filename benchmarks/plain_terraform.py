"""The same machines by Terraform alone, as people do it: one `terraform apply` for all of them.
None of the product's code takes part."""

import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.cloud import Cloud

PARALLEL = 10
FIRST = 25000
APPLY_S = 900


@dataclass(frozen=True)
class Alone:
    took_s: float
    is_done: bool


def apply(site: Cloud, count: int) -> Alone:
    """`count` machines, `-parallelism=10`; then they are destroyed again."""
    with tempfile.TemporaryDirectory(prefix="daas-plain-") as folder:
        Path(folder, "main.tf.json").write_text(json.dumps(_modules(site, count)))
        Path(folder, "cli.tfrc").write_text(
            'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n'
            % site.product.environment["DAAS_TF_MIRROR"]
        )
        _terraform(site, folder, "init")
        begun = time.monotonic()
        code = _terraform(site, folder, "apply", "-auto-approve", f"-parallelism={PARALLEL}")
        took_s = time.monotonic() - begun
        _terraform(site, folder, "destroy", "-auto-approve", "-parallelism=4")
    return Alone(took_s, code == 0)


def _modules(site: Cloud, count: int) -> dict[str, object]:
    return {
        "module": {
            f"desktop{n}": {
                "source": site.product.environment["TERRAFORM_DIR"],
                "vm_name": f"plain-{n}",
                "vmid": FIRST + n,
                **site.plain_variables(n),
            }
            for n in range(count)
        }
    }


def _terraform(site: Cloud, folder: str, *args: str) -> int:
    ours = {"TF_CLI_CONFIG_FILE": f"{folder}/cli.tfrc", "SSL_CERT_FILE": site.sim.ca_file}
    command = ["terraform", *args, "-input=false", "-no-color"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **ours}, capture_output=True, timeout=APPLY_S
    )
    return done.returncode
