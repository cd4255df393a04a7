"""Writes the site as it is simulated: the same file, with the real address of every device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from ems.config.load import LoadedSite
from ems.config.site import Device, Load
from ems.errors import Failed


def write_as_simulated(loaded: LoadedSite, path: Path, addresses: Mapping[str, Device]) -> None:
    """Write the site file to `path` with a `device` for every asset and feeder.

    Comments and all else stay. Profiles beside the original file are named by their absolute path; timeouts are
    kept; `security` goes, because the simulated servers have none.
    """
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    data: Any = yaml.load(loaded.path.read_text(encoding="utf-8"))
    for item in data["assets"]:
        asset = loaded.site.asset(item["id"])
        item["device"] = _device(loaded, asset.id, addresses)
        if isinstance(asset, Load):
            if "feeders" not in item:
                item["feeders"] = [CommentedMap(id=f.id, priority=f.priority, share=f.share) for f in asset.feeders]
            for feeder in item["feeders"]:
                feeder["device"] = _device(loaded, feeder["id"], addresses)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(data, file)
    except OSError as error:
        raise Failed(f"cannot write ({error.strerror})", str(path), "a folder that can be written, as --data DIR") from error


def _device(loaded: LoadedSite, asset_id: str, addresses: Mapping[str, Device]) -> CommentedMap:
    at, given = addresses[asset_id], loaded.site.asset(asset_id).device
    profile = at.profile
    if given is not None:
        profile = str((loaded.path.parent / given.profile).resolve()) if given.profile.endswith(".yaml") else given.profile
    found = CommentedMap(profile=profile, url=at.url, unit=at.unit)
    if given is not None and "timeout_s" in given.model_fields_set:
        found["timeout_s"] = given.timeout_s
    found.fa.set_flow_style()
    return found
