"""The first files of a template: Debian by mmdebstrap, or a cloud image. The result is an image of
LXD's that is found again by a hash of what it was made from: the next build starts from there."""

import hashlib
import io
import json
import os
import platform
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from daas import process
from daas.errors import Refused, Stopped
from daas.providers.base import Baking, Progress
from daas.providers.lxd import mirror
from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.errors import Absent

HASH, INSTANCE, TEMPLATE = "daas.base", "daas.instance", "daas.template"  # image properties
RECIPE = 2  # raise it when this file makes something else from the same inputs
MAX_AGE_S = 7 * 86400  # older packages are fetched anew: a template has its day's fixes
MMDEBSTRAP_S, UPLOAD_S, CONNECT_S = 1800.0, 900.0, 20.0
ROLE = "roles/desktop-config"
HOOKS = Path("/usr/share/mmdebstrap/hooks")
USED_HOOKS = ("eatmydata", "merged-usr")
MERGED = "usr-is-merged"  # instead of a converter that brings 1600 files of Perl
CHUNK = 1 << 20


def base_image(
    client: LxdClient, ansible_dir: Path, folder: Path, baking: Baking, progress: Progress
) -> str:
    """Return the fingerprint of LXD's image to start from, made in `folder` unless it is there."""
    inputs = _inputs(ansible_dir / ROLE, baking.spec)
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]
    images = client.request("GET", "/1.0/images?recursion=1")
    for image in images:
        if image["properties"].get(HASH) == key and _age_s(image) < MAX_AGE_S:
            progress(f"base: image {image['fingerprint'][:12]} is there already")
            return str(image["fingerprint"])
    made = _make(folder, inputs, progress)
    progress(f"base: {made.stat().st_size >> 20} MiB go to LXD")
    fingerprint = _upload(client, made, key, baking)
    made.unlink()
    _forget(client, images, baking)
    return fingerprint


def _inputs(role: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the base is made from, and nothing else: a changed role needs no new base."""
    base = spec["base"]
    if base["kind"] == "cloud-image":
        return {"recipe": RECIPE, "url": base["url"], "sha256": base.get("sha256")}
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    has_sound = spec.get("variables", {}).get("desktop_sound", False)
    sound = defaults["desktop_sound_packages"] if has_sound else []
    return {
        "recipe": RECIPE,
        "suite": base["suite"],
        "mirror": base.get("mirror"),
        "architecture": platform.machine(),
        "packages": sorted({*defaults["desktop_packages"], *sound, *spec["packages"]}),
        "excludes": (role / "files/dpkg-excludes").read_text() + _other_languages(spec["locale"]),
    }


def _other_languages(locale: str) -> str:
    language = locale.partition("_")[0]
    kept = "".join(f"path-include=/usr/share/locale/{one}*\n" for one in {language, "locale."})
    return f"path-exclude=/usr/share/locale/*\n{kept}"


def _make(folder: Path, inputs: Mapping[str, Any], progress: Progress) -> Path:
    if "url" in inputs:
        return _download(folder / "base", inputs["url"], inputs["sha256"], progress)
    return _debootstrap(folder, inputs, progress)


def _debootstrap(folder: Path, inputs: Mapping[str, Any], progress: Progress) -> Path:
    """The bulk of all packages is unpacked here, without a boot and without fsync."""
    suite, made = inputs["suite"], folder / "base.tar"
    progress(f"base: Debian {suite} with {len(inputs['packages'])} packages and what they need")
    (folder / "debian.sources").write_text(mirror.sources(suite, inputs.get("mirror")))
    (folder / "dpkg.conf").write_text(inputs["excludes"] + "force-unsafe-io\n")
    with open(os.open(folder / "apt.conf", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(mirror.options())
    args = [
        "mmdebstrap",
        "--variant=minbase",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--skip=output/dev",  # LXD makes a container's devices
        f"--aptopt={folder}/apt.conf",
        f"--dpkgopt={folder}/dpkg.conf",
        *[f"--hook-dir={HOOKS / hook}" for hook in USED_HOOKS if (HOOKS / hook).is_dir()],
        f"--include={','.join([*inputs['packages'], MERGED])}",
        suite,
        str(made),
        str(folder / "debian.sources"),
    ]
    # Its temporary files are ours, so that after a kill the next build takes them away.
    (folder / "tmp").mkdir()
    env = {"TMPDIR": str(folder / "tmp"), "LC_ALL": "C.UTF-8"}
    process.run(args, MMDEBSTRAP_S, env=env, on_line=progress, is_bound=True)
    return made


def _download(made: Path, url: str, sha256: str | None, progress: Progress) -> Path:
    progress(f"base: downloading {url}")
    digest = hashlib.sha256()
    try:
        with made.open("wb") as file:
            for chunk in _chunks(url):
                if process.stop.get().is_set():
                    raise Stopped(url)
                digest.update(chunk)
                file.write(chunk)
    except (httpx.HTTPError, OSError) as error:
        raise Refused(
            f"The base image {url} cannot be had: {error}. Is the address right?"
        ) from error
    if sha256 and digest.hexdigest() != sha256:
        raise Refused(f"{url} is not what the template says: its sha256 is {digest.hexdigest()}.")
    return made


def _chunks(url: str) -> Iterator[bytes]:
    if url.startswith("file://"):
        with open(url.removeprefix("file://"), "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
        return
    with httpx.stream("GET", url, follow_redirects=True, timeout=CONNECT_S) as answer:
        answer.raise_for_status()
        yield from answer.iter_bytes(CHUNK)


def _upload(client: LxdClient, made: Path, key: str, baking: Baking) -> str:
    """LXD knows the image only when it is whole, and with our properties from the first moment."""
    about = {HASH: key, INSTANCE: baking.instance, TEMPLATE: baking.template}
    with made.open("rb") as file:
        metadata = ("metadata.tar", io.BytesIO(_metadata(about)))
        parts = {"metadata": metadata, "rootfs": ("rootfs", file)}
        return str(client.upload("/1.0/images", parts, UPLOAD_S)["fingerprint"])


def _metadata(properties: Mapping[str, str]) -> bytes:
    """Properties belong in here: LXD 5.0 dies of them where they come as headers instead."""
    about = {
        "architecture": platform.machine(),
        "creation_date": int(time.time()),
        "properties": dict(properties),
    }
    content, buffer = yaml.safe_dump(about).encode(), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("metadata.yaml")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _forget(client: LxdClient, images: list[dict[str, Any]], baking: Baking) -> None:
    """Earlier bases of this template are gone; another installation's stay."""
    for image in images:
        about = image["properties"]
        if about.get(INSTANCE) == baking.instance and about.get(TEMPLATE) == baking.template:
            with suppress(Absent):
                client.do("DELETE", f"/1.0/images/{image['fingerprint']}")


def _age_s(image: Mapping[str, Any]) -> float:
    made = datetime.fromisoformat(image["uploaded_at"])
    return (datetime.now(UTC) - made).total_seconds()
