"""What a site with MQTT meters becomes on the wire of the simulator, which has no broker."""

from __future__ import annotations

from pathlib import Path

from ems.config.load import load_site
from simulator.plant import Plant
from tests.simulator.test_servers import listening


async def test_a_meter_that_publishes_is_shown_as_the_built_in_device_of_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    text = "site: {id: isle}\nassets:\n  - {id: town, kind: load, peak_kw: 400}\n  - {id: dg1, kind: diesel, rated_kw: 500}\n"
    for meter in ("m1", "m2"):
        text += f'  - {{id: {meter}, kind: meter, measures: dg1, device: {{profile: mqtt-meter, url: "mqtt://127.0.0.1:1883"}}}}\n'
    path.write_text(text, encoding="utf-8")
    site = load_site(path)
    async with listening(site, Plant(site.site)) as servers:
        assert [servers.addresses[m].profile for m in ("m1", "m2")] == ["generic-meter"] * 2
        assert servers.addresses["m1"].unit != servers.addresses["m2"].unit
