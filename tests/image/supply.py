"""What the server consists of (`make sbom`), and whether anything in it is known to be vulnerable (`make audit`).

Both look at an environment made as the image's is: the locked versions of what the server needs, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.beds.guest import cache
from tests.image.build import ROOT, run, say

SBOM = ROOT / "build/sbom.json"
TOOLS = Path(__file__).with_name("tools.txt")
SERVICES = ("pypi", "osv")
FOUND, UNKNOWN = 1, 3
ASK_SECONDS = 300


def sbom() -> Path:
    """Writes the bill of materials, CycloneDX 1.6 in JSON, checked against its schema, the same each time; where it is."""
    SBOM.parent.mkdir(exist_ok=True)
    program, python = _tool("cyclonedx-py"), _environment() / "bin/python"
    run(program, "environment", str(python), "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--validate", "-o", str(SBOM))
    say(f"{SBOM.relative_to(ROOT)} lists {len(json.loads(SBOM.read_text())['components'])} packages")
    return SBOM


def audit() -> int:
    """Asks the vulnerability services, one after another, until one knows of every package; says what it found.

    0 nothing is known, 1 something is, 3 nobody could be asked about all of them, which is no good news.
    """
    for service in SERVICES:
        report = _ask(service)
        packages = report.get("dependencies", ())
        vulnerable, unaudited = judge(packages)
        if vulnerable:
            print("\n".join(vulnerable))
            return FOUND
        if packages and not unaudited:
            say(f"no known vulnerability in {len(packages)} packages ({service})")
            return 0
        say(f"{service} cannot be asked from here: {report.get('error') or f'it knows nothing of {len(unaudited)} packages'}")
    say("NOT AUDITED: no vulnerability service can be reached. Run it where one of them can.")
    return UNKNOWN


def judge(dependencies: Iterable[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Of a report of pip-audit: what is vulnerable, and what it could not say anything of. It calls both of the latter a success."""
    vulnerable, unaudited = [], []
    for package in dependencies:
        if "skip_reason" in package:
            unaudited.append(package["name"])
        for flaw in package.get("vulns", ()):
            fixed = ", ".join(flaw["fix_versions"]) or "no version"
            vulnerable.append(f"{package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}")
    return vulnerable, unaudited


def _ask(service: str) -> dict[str, Any]:
    (packages,) = (_environment() / "lib").glob("python*/site-packages")
    command = [_tool("pip-audit"), "--path", str(packages), "-s", service, "-f", "json", "--progress-spinner=off", "--timeout=15"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {ASK_SECONDS} s"}
    if not done.stdout.startswith("{"):
        return {"error": (done.stderr.strip().splitlines() or ["it said nothing"])[-1]}
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _environment() -> Path:
    """The server's packages at their locked versions, as the Dockerfile installs them."""
    recipe = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes() + sys.version.encode()
    home = cache() / "supply" / hashlib.sha256(recipe).hexdigest()[:12]
    if not (home / "made").exists():
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = [*project["dependencies"], *project["optional-dependencies"]["server"]]
        say("installing the server's packages apart")
        venv.create(home, clear=True)
        with tempfile.TemporaryDirectory() as wheels:
            pip = (sys.executable, "-m", "pip")
            run(*pip, "wheel", "-q", "--no-build-isolation", "-c", str(ROOT / "constraints.txt"), "-w", wheels, *wanted)
            run(*pip, "--python", str(home / "bin/python"), "install", "-q", "--no-index", "-f", wheels, *wanted)
        (home / "made").touch()
    return home


def _tool(name: str) -> str:
    home = cache() / "supply" / f"tools-{hashlib.sha256(TOOLS.read_bytes()).hexdigest()[:12]}"
    if not (home / "made").exists():
        say("installing what looks at them")
        venv.create(home, clear=True, with_pip=True)
        run(str(home / "bin/pip"), "install", "-q", "-r", str(TOOLS))
        (home / "made").touch()
    return str(home / "bin" / name)


if __name__ == "__main__":
    if sys.argv[1:] == ["sbom"]:
        sbom()
    else:
        sys.exit(audit())
