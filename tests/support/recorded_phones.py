"""Recorded outputs of real phones, with what was read off them."""

import json
import tarfile
from functools import cache
from pathlib import Path

DATA = Path(__file__).parents[1] / "devices" / "data"


@cache
def outputs():
    """Return {number: (bytes, facts)} of recorded command outputs."""
    files = _read("android.tar.xz")
    return {
        name.removesuffix(".json"): (files[name.replace(".json", ".txt")], json.loads(content))
        for name, content in files.items()
        if name.endswith(".json")
    }


@cache
def phones():
    """Return {name: record} of recorded phones: properties and files."""
    return {name.removesuffix(".json"): json.loads(content) for name, content in _read("phones.tar.xz").items()}


def _read(archive):
    with tarfile.open(DATA / archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
