"""What must hold between the parts of a site: names that exist, one former at least, ratings in one unit, one device per address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ems.config.endpoint import Endpoint, endpoint
from ems.config.profile import Place, Point, Profile, apart, registers
from ems.config.site import AnyAsset, Battery, Deferrable, Device, Diesel, Feeder, Hydro, Inverter, Load, Meter, Site, Solar, Tank

Steps = tuple[str | int, ...]
RATINGS = ("rated_kw", "rated_kva", "charge_kw", "discharge_kw", "capacity_kwh")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MODBUS_LINES = ("tcp", "rtu+tcp", "rtu")
SCHEMES = {"modbus": MODBUS_LINES, "sunspec": MODBUS_LINES, "opcua": ("opc.tcp",), "mqtt": ("mqtt", "mqtts")}
SERIAL_UNITS = (1, 247)
CYCLES_OF_SILENCE = 3
"""A device must hear of so many cycles before it takes us for gone: one may be skipped, one be lost on the way."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong in a site, at a path from its root."""

    path: Steps
    error: str
    expected: str


def devices(site: Site) -> Iterator[tuple[Steps, AnyAsset | Feeder]]:
    """Give every asset and feeder that could have a device, with its path."""
    for n, asset in enumerate(site.assets):
        yield ("assets", n), asset
        if isinstance(asset, Load):
            for k, feeder in enumerate(asset.feeders):
                yield ("assets", n, "feeders", k), feeder


def site_mistakes(site: Site) -> Iterator[Mistake]:
    """Find what is wrong between assets, without looking at devices."""
    yield from _ids(site)
    yield from _names(site)
    yield from _tanks(site)
    yield from _storage(site)
    yield from _formers(site)
    yield from _ratings(site)
    yield from _baseline(site)
    yield from _place(site)


def _place(site: Site) -> Iterator[Mistake]:
    """Find a forecast that needs to know where the site is."""
    if site.planner.forecast == "clearsky" and not {"latitude", "longitude"} <= site.site.model_fields_set:
        yield Mistake(("planner", "forecast"), "clearsky needs to know where the site is", "site.latitude and site.longitude, or blend")


def _ids(site: Site) -> Iterator[Mistake]:
    seen: set[str] = set()
    for path, asset in devices(site):
        if asset.id in seen:
            yield Mistake((*path, "id"), f"the id {asset.id!r} is taken", "ids of assets and feeders that are unique together")
        seen.add(asset.id)


def _names(site: Site) -> Iterator[Mistake]:
    """Find names of assets that do not exist, or are not of the right kind."""
    kinds: Mapping[str, str] = {a.id: a.kind for _, a in devices(site)}

    def missing(path: Steps, name: str, *allowed: str) -> Iterator[Mistake]:
        if name not in kinds:
            known = " | ".join(i for i, k in kinds.items() if not allowed or k in allowed)
            yield Mistake(path, f"there is no asset {name!r}", known or f"an asset of kind {' or '.join(allowed)}")
        elif allowed and kinds[name] not in allowed:
            yield Mistake(path, f"{name!r} is of kind {kinds[name]}", f"an asset of kind {' or '.join(allowed)}")

    for n, asset in enumerate(site.assets):
        if isinstance(asset, Battery):
            yield from missing(("assets", n, "behind"), asset.behind, "inverter")
        elif isinstance(asset, Meter):
            yield from missing(("assets", n, "measures"), asset.measures)
        elif isinstance(asset, Tank):
            for k, name in enumerate(asset.feeds):
                yield from missing(("assets", n, "feeds", k), name, "diesel")
    for k, name in enumerate(site.baseline.assets if site.baseline else ()):
        yield from missing(("baseline", "assets", k), name, "diesel")
    for k, name in enumerate(site.mrv.project_assets if site.mrv else ()):
        yield from missing(("mrv", "project_assets", k), name)
    for name in site.economics.capex if site.economics else ():
        yield from missing(("economics", "capex", name), name)


def _tanks(site: Site) -> Iterator[Mistake]:
    fed: dict[str, str] = {}
    for n, tank in enumerate(site.assets):
        if isinstance(tank, Tank):
            for k, diesel in enumerate(tank.feeds):
                if diesel in fed:
                    yield Mistake(("assets", n, "feeds", k), f"{diesel!r} is fed by {fed[diesel]!r} already", "one tank for each diesel")
                fed[diesel] = tank.id


def _storage(site: Site) -> Iterator[Mistake]:
    behind = Counter(b.behind for b in site.of(Battery))
    for n, asset in enumerate(site.assets):
        if isinstance(asset, Battery) and behind[asset.behind] > 1:
            yield Mistake(("assets", n, "behind"), f"{behind[asset.behind]} batteries are behind {asset.behind!r}", "one battery for each inverter")


def _formers(site: Site) -> Iterator[Mistake]:
    """At least one unit can form, at most one is isochronous: two would fight over the frequency."""
    able = [a.id for a in site.of(Diesel) + site.of(Hydro) if a.forming != "never"]
    able += [i.id for i in site.of(Inverter) if i.forming != "never" and site.battery_behind(i.id)]
    if not able:
        text = "no unit of this site can form the busbar"
        yield Mistake(("assets",), text, "a diesel, a hydro or an inverter with a battery whose forming is isochronous or droop")
    isochronous = [n for n, a in enumerate(site.assets) if isinstance(a, Diesel | Hydro | Inverter) and a.forming == "isochronous"]
    for n in isochronous[1:]:
        yield Mistake(("assets", n, "forming"), f"{site.assets[isochronous[0]].id!r} is isochronous already", "droop, or never: at most one isochronous unit")


def _ratings(site: Site) -> Iterator[Mistake]:
    """Find ratings that must be in another unit: nothing at a site is a thousandth or a hundred times its peak."""
    peak = site.peak_kw
    if peak <= 0:
        return
    for n, asset in enumerate(site.assets):
        if not isinstance(asset, Solar | Hydro | Diesel | Inverter | Battery | Deferrable):
            continue
        for field in RATINGS:
            value = getattr(asset, field, None)
            if value is None or 0.001 * peak <= value <= 100 * peak:
                continue
            unit = "kWh" if field == "capacity_kwh" else "kVA" if field == "rated_kva" else "kW"
            other, factor = (f"M{unit[1:]}", 1000) if value < peak else (unit[1:], 0.001)
            text = f"{field} {value:g} is {value / peak:.3g} x the total peak_kw of {peak:g}; if it is in {other} write {value * factor:g}"
            yield Mistake(("assets", n, field), text, f"{0.001 * peak:g} to {100 * peak:g} {unit}; or is a peak_kw in another unit?")


def _baseline(site: Site) -> Iterator[Mistake]:
    """The counterfactual fleet must be able to carry the site: else it is no way in which the island could have been run."""
    if site.baseline is None:
        return
    ids = set(site.baseline.assets)
    fleet = sum(d.rated_kw for d in site.of(Diesel) if d.id in ids)
    if fleet < 1.1 * site.peak_kw - 1e-9:
        text = f"the baseline fleet has {fleet:g} kW for a peak of {site.peak_kw:g} kW"
        yield Mistake(("baseline", "assets"), text, f"at least {1.1 * site.peak_kw:g} kW, 1.1 x the peak")


def device_mistakes(site: Site, profiles: Mapping[str, Profile]) -> Iterator[Mistake]:
    """Find devices that their profile cannot serve, and two devices at one address.

    Parameters
    ----------
    site : Site
    profiles : Mapping[str, Profile]
        Of every asset and feeder, placeholders replaced.
    """
    taken: dict[tuple[object, ...], list[tuple[str, Place | None]]] = {}
    lines: dict[str, tuple[Endpoint, str]] = {}
    for path, asset in devices(site):
        if asset.device is None:
            continue
        device, profile, at = asset.device, profiles[asset.id], (*path, "device")
        if profile.kind != asset.kind:
            yield Mistake((*at, "profile"), f"the profile {device.profile!r} is for a {profile.kind}", f"a profile for a {asset.kind}")
        line, wanted = endpoint(device.url), SCHEMES[profile.protocol]
        if line.scheme not in wanted:
            yield Mistake((*at, "url"), f"{profile.protocol} is not reached by {line.scheme}://", " | ".join(_form(scheme) for scheme in wanted))
        if line.serial and not SERIAL_UNITS[0] <= device.unit <= SERIAL_UNITS[1]:
            yield Mistake((*at, "unit"), f"unit {device.unit} does not exist on a serial line", "1 to 247")
        same, owner = lines.setdefault(line.path if line.scheme == "rtu" else str(line), (line, asset.id))
        if same != line and line.scheme == "rtu":
            yield Mistake((*at, "url"), f"{asset.id!r} and {owner!r} set {line.path} differently", f"one baud rate, parity and stop bit: those of {owner!r}")
        yield from _security(at, device, profile, line.host)
        for address, place in _addresses(str(line) if line.scheme == "rtu" else device.url.lower(), device.unit, profile):
            here = taken.setdefault(address, [])
            beside = next((o for o, p in here if o != asset.id and not (p is not None and place is not None and apart(p, place))), None)
            here.append((asset.id, place))
            if beside is not None:
                yield Mistake(at, f"{asset.id!r} and {beside!r} are at one address: {device.url} {address[-1]}", "an address of its own for each device")
                break
    yield from _cadence(site, profiles)


def _cadence(site: Site, profiles: Mapping[str, Profile]) -> Iterator[Mistake]:
    """Find a cycle so long that a device takes us for gone between two of them; below `control` it hears nothing anyway."""
    silent = {asset: rule.after_s for asset, profile in profiles.items() if (rule := profile.on_silence) is not None and rule.after_s > 0}
    if site.control.stage != "control" or not silent:
        return
    first, cycle_s = min(silent, key=lambda asset: silent[asset]), site.control.cycle_s
    if cycle_s > silent[first] / CYCLES_OF_SILENCE:
        text = f"a cycle each {cycle_s:g} s, while silence begins for {first!r} after {silent[first]:g} s (on_silence of profile {profiles[first].profile})"
        yield Mistake(("control", "cycle_s"), text, f"at most {silent[first] / CYCLES_OF_SILENCE:.3g}, a third of its after_s; or stage shadow or advise")


def _security(at: Steps, device: Device, profile: Profile, host: str) -> Iterator[Mistake]:
    """Find transports that would show the plant, or a password, to whoever is on the way; `{policy: none}` says that this is meant."""
    security, opcua = device.security, profile.protocol == "opcua"
    plain = opcua or device.url.startswith("mqtt:")
    if profile.protocol in ("opcua", "mqtt") and plain and security is None and host not in LOOPBACK:
        text = f"{'OPC UA without security' if opcua else 'MQTT without TLS'} beyond this machine"
        safe = "security: {policy: Basic256Sha256, mode: SignAndEncrypt, ...}" if opcua else "mqtts://HOST:PORT"
        yield Mistake((*at, "security"), text, f"{safe}, or security: {{policy: none}} to say that plain transport is meant")
    if security is None:
        return
    given = security.model_fields_set
    if opcua and security.policy != "none":
        for field in ("certificate", "private_key", "trust"):
            if getattr(security, field) is None:
                yield Mistake(
                    (*at, "security", field), f"no {field}", "the path of our certificate, its private_key, and a folder trust with the server's certificate"
                )
        if security.mode == "None":
            yield Mistake((*at, "security", "mode"), f"{security.policy} without a signature", "SignAndEncrypt or Sign; or policy: none")
    if profile.protocol == "mqtt" and ("mode" in given or security.policy != "none" and "policy" in given):
        yield Mistake((*at, "security", "mode" if "mode" in given else "policy"), "policy and mode are of OPC UA", "mqtts:// in the url; or policy: none")
    if profile.protocol == "mqtt" and plain and given & {"trust", "certificate", "private_key"}:
        yield Mistake((*at, "url"), "certificates without TLS", "mqtts://HOST:PORT")
    if profile.protocol == "mqtt" and (security.certificate is None) != (security.private_key is None):
        yield Mistake((*at, "security"), "certificate and private_key belong together", "both or none")


def _form(scheme: str) -> str:
    """Return how a url of a scheme is written."""
    return "rtu:///dev/ttyX?baud=9600&parity=N&stop=1" if scheme == "rtu" else f"{scheme}://HOST:PORT"


def _addresses(url: str, unit: int, profile: Profile) -> Iterator[tuple[tuple[object, ...], Place | None]]:
    """Find what a device occupies: registers, points, nodes or topics, and of registers what stands in them.

    A battery is often in the map of its inverter, so two assets may share a Modbus unit, but nothing in it. Where one only reads what the
    other writes they are in different places; and so are two bits of one word.
    """
    places = [*profile.points.values(), *profile.commands.values()]
    if profile.protocol == "modbus":
        for place in (*places, *((profile.heartbeat,) if profile.heartbeat else ())):
            for table, address in registers(place, profile.defaults):
                yield (url, unit, isinstance(place, Point), f"unit {unit} {table} {address}"), place
        return
    if profile.protocol == "sunspec":
        names = [f"unit {unit} {p.point}" for p in places if p.point]
    else:
        names = [name for p in places if (name := p.node or " ".join(t for t in (p.topic, p.json_path) if t))]
    yield from (((url, name), None) for name in names)
