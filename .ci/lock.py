"""Write requirements.lock: each package that pip resolves from pyproject.toml, `name==version`.

Run by `make lock`. Nothing is installed: pip reports what it would install. A package that is
needed on some systems only gets a marker, found by walking the packages' own requirements once
per platform.
"""

import json
import platform
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Made by `make lock` from pyproject.toml, with the oldest Python that it allows: do not edit.
# `make report` and `make test` install these versions, from the package index that pip is set to.
"""
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64"},
]


def resolve(dependencies: list[str]) -> dict[str, dict]:
    """Return the metadata of each package that pip would install, by canonical name."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    report = subprocess.run(
        [*command, "--report", "-", *dependencies], check=True, stdout=subprocess.PIPE
    )
    packages = (item["metadata"] for item in json.loads(report.stdout)["install"])
    return {canonicalize_name(package["name"]): package for package in packages}


def needed(dependencies: list[str], packages: dict[str, dict], target: dict) -> set[str]:
    """Return the names of the packages that a platform needs."""
    os_name = "nt" if target["sys_platform"] == "win32" else "posix"
    environment = default_environment() | target | {"os_name": os_name}
    seen = set()
    pending = [(requirement, "") for requirement in dependencies]
    while pending:
        text, extra = pending.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(environment | {"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if name in packages and (name, wanted) not in seen:
                seen.add((name, wanted))
                pending += [(each, wanted) for each in packages[name].get("requires_dist", [])]
    return {name for name, _ in seen}


def marker(found: list[dict]) -> str:
    """Return the marker of a package that these platforms need; empty where all of them do."""
    if found == PLATFORMS:
        return ""
    terms = []
    for system in dict.fromkeys(each["sys_platform"] for each in found):
        term = f'sys_platform == "{system}"'
        machines = [each["platform_machine"] for each in found if each["sys_platform"] == system]
        if len(machines) < sum(each["sys_platform"] == system for each in PLATFORMS):
            term += f' and platform_machine == "{machines[0]}"'
        terms.append(term)
    return " ; " + " or ".join(terms)


def main():
    """Resolve, and write the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    here = "{}.{}".format(*sys.version_info), sys.platform, platform.machine()
    if here != (oldest, "linux", "x86_64"):
        sys.exit(f"make lock: needs Python {oldest} on linux x86_64, this is {' '.join(here)}")
    extras = project["optional-dependencies"].values()
    dependencies = [*project["dependencies"], *(text for extra in extras for text in extra)]
    packages = resolve(dependencies)
    found = defaultdict(list)
    for target in PLATFORMS:
        for name in needed(dependencies, packages, target):
            found[name].append(target)
    lines = [
        f"{name}=={package['version'].partition('+')[0]}{marker(found[name])}\n"
        for name, package in sorted(packages.items())
    ]
    (ROOT / "requirements.lock").write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"requirements.lock: {len(lines)} packages")


if __name__ == "__main__":
    main()
