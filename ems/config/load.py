"""Loads a site file with the profiles of its devices, and refuses it with one clear error."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain
from pathlib import Path

from ems.config.checks import Mistake, device_mistakes, devices, site_mistakes
from ems.config.profile import Profile
from ems.config.profile_checks import profile_mistakes
from ems.config.silence import silence_mistakes
from ems.config.site import Device, Site
from ems.config.yaml import Document, read_yaml, validated, written
from ems.errors import BadInput


@dataclass(frozen=True)
class LoadedSite:
    """A site that is valid, with what it was made of.

    Attributes
    ----------
    site : Site
    profiles : Mapping[str, Profile]
        By asset and feeder id. One without `device` has its kind's built-in profile, which the plant serves.
    path : Path
        The site file.
    sha256 : str
        Of the file's bytes.
    lines : Mapping[str, int]
        Line of every written path, as `assets[2].soc_max`.
    """

    site: Site
    profiles: Mapping[str, Profile]
    path: Path
    sha256: str
    lines: Mapping[str, int]


def load_site(path: Path | str) -> LoadedSite:
    """Read, check and resolve a site file.

    Raises
    ------
    BadInput
        With the file, the line and the path of the first mistake, and what was expected there.
    """
    path = Path(path)
    document = read_yaml(path)
    site = validated(Site, document)
    _refuse(site_mistakes(site), document)
    profiles = _profiles(site, document, path.parent)
    _refuse(chain(device_mistakes(site, profiles), silence_mistakes(site, profiles)), document)
    lines = {written(p): line for p, line in document.lines.items() if p}
    return LoadedSite(site, profiles, path, hashlib.sha256(path.read_bytes()).hexdigest(), lines)


def shipped_profiles() -> tuple[str, ...]:
    """Return the names of the profiles that come with the EMS."""
    return tuple(sorted(f.name.removesuffix(".yaml") for f in (resources.files("configs") / "profiles").iterdir() if f.name.endswith(".yaml")))


@cache
def shipped_profile(name: str) -> Profile:
    """Return a profile that comes with the EMS; a KeyError if there is none of this name."""
    if name not in shipped_profiles():
        raise KeyError(name)
    with resources.as_file(resources.files("configs") / "profiles" / f"{name}.yaml") as path:
        return load_profile(path)


def load_profile(path: Path) -> Profile:
    """Return the profile in a file."""
    document = read_yaml(path)
    profile = validated(Profile, document)
    _refuse(profile_mistakes(profile), document)
    return profile


def _refuse(mistakes: Iterator[Mistake], document: Document) -> None:
    first = next(mistakes, None)
    if first is not None:
        raise document.bad(first.path, first.error, first.expected)


def _profiles(site: Site, document: Document, folder: Path) -> dict[str, Profile]:
    read: dict[str, Profile] = {}
    found = {}
    for path, asset in devices(site):
        if asset.device is None:
            profile = shipped_profile(f"generic-{asset.kind}")
        else:
            name = asset.device.profile
            if name not in read:
                read[name] = _profile(asset.device, (*path, "device", "profile"), document, folder)
            profile = read[name]
        found[asset.id] = profile.for_asset(asset.id)
    return found


def _profile(device: Device, path: tuple[str | int, ...], document: Document, folder: Path) -> Profile:
    if device.profile.endswith(".yaml"):
        file = folder / device.profile
        if not file.is_file():
            raise document.bad(path, f"there is no profile file {file}", "a path beside the site file, or the name of a shipped profile")
        return load_profile(file)
    try:
        return shipped_profile(device.profile)
    except KeyError:
        raise document.bad(path, f"there is no shipped profile {device.profile!r}", " | ".join(shipped_profiles()) + ", or a path that ends in .yaml") from None
    except BadInput as error:
        raise document.bad(path, f"the shipped profile is broken: {error}", "a whole installation") from error
