"""What both providers really say when Proxmox refuses is understood, in their words."""

import json
from pathlib import Path

import pytest

from daas.errors import Congested, Refused, TemplateMissing, Unreachable
from daas.providers.proxmox import errors
from daas.providers.proxmox.errors import NumberInUse, Unexplained

FILE = Path(__file__).parents[1] / "fixtures/terraform/diagnostics.json"
SAMPLES = json.loads(FILE.read_text())
MEANS = {
    "clone_lock_timeout": Congested,
    "volume_left_by_a_timeout": Congested,
    "missing_privilege": Refused,
    "token_expired": Refused,
    "vmid_taken": NumberInUse,
    "template_missing": TemplateMissing,
    "storage_full": Refused,
    "certificate_changed": Refused,
    "node_does_not_answer": Unreachable,
    "clone_task_failed": Refused,
    "start_task_failed": Unexplained,
    "quorum_lost": Unreachable,
    "api_is_away": Unreachable,
}


def text_of(provider: str, sample: str) -> str:
    return " ".join(f"{one['summary']} {one['detail']}" for one in SAMPLES[provider][sample])


@pytest.mark.parametrize("provider", ["bpg", "telmate"])
@pytest.mark.parametrize("sample", MEANS)
def test_a_refusal_is_understood(provider, sample):
    assert type(errors.meaning(text_of(provider, sample))) is MEANS[sample]


@pytest.mark.parametrize("provider", ["bpg", "telmate"])
@pytest.mark.parametrize(
    "sample, word",
    [
        ("missing_privilege", "VM.Config"),
        ("token_expired", "new one"),
        ("template_missing", "9999"),
        ("storage_full", "storage is full"),
        ("certificate_changed", "DAAS_PROXMOX_CA_FILE"),
    ],
)
def test_the_person_is_told_what_to_do_about_it(provider, sample, word):
    assert word in str(errors.meaning(text_of(provider, sample)))


@pytest.mark.parametrize("provider", ["bpg", "telmate"])
def test_there_is_a_sample_of_each(provider):
    assert SAMPLES[provider].keys() == MEANS.keys()
