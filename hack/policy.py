#!/usr/bin/env python3
"""The dependency policy, checked over `cargo metadata`.

What cargo-deny's bans, licenses and sources checks would say, without building it:
- every crate comes from crates.io or from this repository;
- every licence expression can be satisfied with the permissive licences below;
- no banned crate, and libcontainer (with its old nix) behind `cricket-launch` only;
- no version of a crate with known holes, and none of the calls that make them;
- a crate of cricket depends only on crates above it in ARCHITECTURE.md's table.
Exit status 1 with one line for each violation.
"""

import json
import pathlib
import re
import subprocess
import sys

LICENCES = {
    "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "ISC",
    "Unicode-3.0", "Zlib", "0BSD", "CC0-1.0", "Unlicense", "BSL-1.0", "CDLA-Permissive-2.0", "OpenSSL", "NCSA",
}
# Linked dynamically as a library (libseccomp) or a build tool's choice.
LICENCE_EXCEPTIONS = {"libseccomp": "LGPL-2.1", "libseccomp-sys": "LGPL-2.1", "r-efi": None,
                      # Unmodified, file-level copyleft, linked by libcontainer.
                      "pathrs": "MPL-2.0",
                      # Apache-2.0, said in a file.
                      "rust-criu": "Apache-2.0"}
BANNED = {"openssl": "TLS is rustls", "native-tls": "TLS is rustls", "oci-distribution": "not maintained",
          "serde_yaml": "not maintained", "lazy_static-rs": "std has LazyLock"}
ONLY_IN_LAUNCH = {"libcontainer", "libcgroups"}
# Older versions have known holes (RUSTSEC-2018-0002, RUSTSEC-2021-0080, RUSTSEC-2026-0067, RUSTSEC-2026-0068).
OLDEST = {"tar": (0, 4, 46)}
# tar reads archives and never writes files: what it would write by path, links of the archive lead elsewhere.
BANNED_CALLS = {r"\.unpack(_in)?\(": "archives are unpacked through descriptors of directories"}
# Each may use those before it; exec, launch and monitor are programs, used by nobody.
ORDER = ["model", "metrics", "cri-api", "process", "cgroup", "store", "image", "cni", "oci", "cdi", "wire", "shim", "exec", "launch", "monitor",
         "runtime", "nri", "pod", "streaming", "server"]
PROGRAMS = {"exec", "launch", "monitor"}


def satisfied(expression):
    """Whether an SPDX expression (or the old `A/B` form) can be met with the allowed licences."""
    text = expression.replace("/", " OR ")
    tokens = re.findall(r"\(|\)|\bAND\b|\bOR\b|[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.+-]+)?", text)

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        token = tokens.pop(0)
        if token == "(":
            value = either()
            tokens.pop(0)
            return value
        return token in LICENCES

    return either()


def main():
    metadata = json.loads(subprocess.check_output(
        ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"], text=True))
    packages = {p["id"]: p for p in metadata["packages"]}
    members = set(metadata["workspace_members"])
    problems = []
    for package in packages.values():
        name = package["name"]
        where = f"{name} {package['version']}"
        if package["id"] not in members and package["source"] != "registry+https://github.com/rust-lang/crates.io-index":
            problems.append(f"{where}: comes from {package['source']}")
        if name in BANNED:
            problems.append(f"{where}: banned, {BANNED[name]}")
        if name in OLDEST and tuple(map(int, re.findall(r"\d+", package["version"])[:3])) < OLDEST[name]:
            problems.append(f"{where}: want {'.'.join(map(str, OLDEST[name]))} at least")
        licence = package.get("license")
        if name in LICENCE_EXCEPTIONS:
            continue
        if not licence or not satisfied(licence):
            problems.append(f"{where}: licence {licence!r} is not among the allowed ones")
    for node in metadata["resolve"]["nodes"]:
        user = packages[node["id"]]
        for dependency in node["deps"]:
            used = packages[dependency["pkg"]]
            kinds = {k["kind"] for k in dependency["dep_kinds"]}
            if used["name"] in ONLY_IN_LAUNCH and user["name"] not in ONLY_IN_LAUNCH | {"cricket-launch"}:
                problems.append(f"{user['name']}: only cricket-launch may use {used['name']}")
            if node["id"] in members and dependency["pkg"] in members and kinds != {"dev"}:
                problems += direction(user["name"], used["name"])
    problems += calls()
    for problem in sorted(set(problems)):
        print("policy:", problem, file=sys.stderr)
    return 1 if problems else 0


def calls():
    """Calls that no program of cricket may make; tests may."""
    found = []
    for path in pathlib.Path("crates").glob("*/src/**/*.rs"):
        if any("test" in part for part in path.parts):
            continue
        code = path.read_text().split("#[cfg(test)]")[0]
        for pattern, reason in BANNED_CALLS.items():
            found += [f"{path}: {match.group(0)}: {reason}" for match in re.finditer(pattern, code)]
    return found


def direction(user, used):
    user, used = user.removeprefix("cricket-"), used.removeprefix("cricket-")
    if user not in ORDER or used not in ORDER:
        return []
    if used in PROGRAMS:
        return [f"cricket-{user}: cricket-{used} is a program, not a library"]
    if ORDER.index(used) >= ORDER.index(user):
        return [f"cricket-{user}: cricket-{used} is below it"]
    return []


sys.exit(main())
