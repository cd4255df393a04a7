// The single-line diagram: sources above the busbar, feeders and other consumers below it.
import { h, kw, num, percent, span, t, word, clock, both } from "./words.js";

const UP = ["solar", "hydro", "diesel", "inverter"];
const MOVING = 0.5; // kW: below this no arrow is shown
const KEPT = new Map(); // one element per unit, changed in place: the keyboard's focus must survive every second

export function arrange(site) {
  const order = UP.flatMap((kind) => site.assets.filter((a) => a.kind === kind));
  const feeders = site.assets.filter((a) => a.kind === "load").flatMap((l) => l.feeders.map((f) => ({ ...f, kind: "feeder", of: l, rated_kw: f.share * l.peak_kw })));
  return { up: order, down: [...feeders, ...site.assets.filter((a) => a.kind === "deferrable")] };
}

export const batteriesOf = (site, inverter) => site.assets.filter((a) => a.kind === "battery" && a.behind === inverter);

export function kindWord(site, unit) {
  return unit.kind === "inverter" && batteriesOf(site, unit.id).length ? t("kind.battery") : word("kind", unit.kind);
}

export function draw(site, state, explain, alarms, open) {
  const parts = arrange(site);
  fill(document.getElementById("up"), parts.up, site, state, alarms, open, true);
  fill(document.getElementById("down"), parts.down, site, state, alarms, open, false);
  busbar(state);
}

export function forget() {
  KEPT.clear();
  for (const id of ["up", "down"]) document.getElementById(id).replaceChildren();
}

function fill(place, units, site, state, alarms, open, up) {
  for (const unit of units) {
    let column = KEPT.get(unit.id);
    if (!column) {
      column = h("div.col");
      column.unit = h("button.unit", { type: "button", onclick: () => open(unit.id) });
      column.drop = h("div.drop", { "aria-hidden": "true" });
      column.append(...(up ? [column.unit, column.drop] : [column.drop, column.unit]));
      KEPT.set(unit.id, column);
      place.append(column);
    }
    const seen = state.assets[unit.id] ?? { quality: "good", age_s: 0, ...state.feeders?.[unit.id] };
    refresh(column, unit, seen, site, state, alarms, up);
  }
}

function refresh(column, unit, seen, site, state, alarms, up) {
  const power = seen.power_kw, forming = state.formers?.includes(unit.id);
  const stale = seen.quality === "bad" || power == null;
  const still = power == null || Math.abs(power) < MOVING;
  const alarm = alarms.find((a) => a.asset === unit.id || batteriesOf(site, unit.id).some((b) => b.id === a.asset));
  column.unit.className = ["unit", `k-${unit.kind}`, stale && "stale", still && !forming && "off", forming && "forming", seen.quality === "suspect" && "suspect"].filter(Boolean).join(" ");
  column.drop.className = `drop ${still || stale ? "" : up && power > 0 ? "down" : up ? "up" : "down"}`;
  column.unit.replaceChildren(
    h("span.n", null, h("span", null, kindWord(site, unit)), h("span", null, unit.id)),
    h("span.v", null, kw(power), h("small", null, "kW"), h("small.rated", { title: t("rated") }, num(unit.rated_kw))),
    bar(unit, seen),
    ...gauge(site, unit, state),
    h("span.r", null, ...marks(seen, forming, alarm), line(unit, seen, state)),
  );
  column.unit.setAttribute("aria-label", `${kindWord(site, unit)} ${unit.id}: ${kw(power)} kW, ${line(unit, seen, state)}`);
}

function bar(unit, seen) {
  const both = unit.kind === "inverter", scale = both ? 50 : 100;
  const at = (value) => (both ? 50 : 0) + Math.max(-1, Math.min(1, value / unit.rated_kw)) * scale;
  const zero = both ? 50 : 0, end = seen.power_kw == null ? zero : at(seen.power_kw);
  const ceiling = unit.kind === "solar" && seen.available_kw > (seen.power_kw ?? 0) + 1 ? at(seen.available_kw) : null;
  return h("span.bar", null,
    ceiling != null && h("i.free", { style: { left: `${end}%`, width: `${ceiling - end}%` } }),
    h("i", { style: { left: `${Math.min(zero, end)}%`, width: `${Math.abs(end - zero)}%` } }),
    both && h("u"),
    seen.setpoint_kw != null && h("b", { style: { left: `${at(seen.setpoint_kw)}%` } }));
}

function gauge(site, unit, state) {
  return batteriesOf(site, unit.id).map((battery) => {
    const seen = state.assets[battery.id] || {};
    return h(`span.soc${seen.soc == null || seen.quality === "bad" ? ".stale" : ""}`, null,
      h("span.cell", null, h("i", { style: { width: `${(seen.soc ?? 0) * 100}%` } }), h("b", { style: { left: `${battery.soc_min * 100}%` } }), h("b", { style: { left: `${battery.soc_max * 100}%` } })),
      h("span", null, percent(seen.soc)));
  });
}

function marks(seen, forming, alarm) {
  return [
    alarm && h(`span.sign.${alarm.severity}`, { title: both(alarm.text) }),
    forming && h("span.mark.strong", null, t("mark.forming")),
    seen.control === "local" && h("span.mark", null, t("mark.local")),
    seen.reason === "operator" && h("span.mark.strong", null, t("mark.manual")),
    seen.follows === false && h("span.mark.warn", null, t("mark.astray")),
  ].filter(Boolean);
}

// One short line: what is wrong if anything is, else why it does what it does.
function line(unit, seen, state) {
  if (seen.quality === "bad") return seen.age_s == null ? t("stale.never") : t("stale.age", { age: span(seen.age_s) });
  if (unit.kind === "feeder") return seen.closed === false ? t("feeder.shed", { by: word("by", seen.shed_by) }) : t("feeder.on", { n: unit.priority });
  const phase = unit.kind === "diesel" && ["starting", "warming", "synchronising", "unloading", "cooldown", "locked"].includes(seen.state) ? word("phase", seen.state) : "";
  const held = (seen.limited_by || []).filter((g) => g !== "rating").map((g) => word("limit", g));
  const why = [phase, seen.reason && word("reason", seen.reason), held.length ? held.join(t("list.and")) : ""].filter(Boolean).join(" · ");
  return seen.quality === "suspect" ? `${t("suspect")} · ${why}` : why;
}

function busbar(state) {
  const lit = state.formers?.length;
  const bus = document.getElementById("bus");
  bus.className = lit ? "bus" : "bus dead";
  bus.replaceChildren(
    h("span", null, h("b", null, num(state.frequency_hz, 2)), " Hz", h("b.gap", null, num(state.voltage_v)), " V", h("b.gap", null, kw(state.load_kw)), ` kW ${t("load")}`),
    h("span", null, lit ? t("formed.by", { units: state.formers.join(", ") }) : t("formed.nobody")),
  );
}

export function stamp(state, site) {
  return `${clock(state.time, site.site.timezone, "wds")} ${t("time.site")} · ${clock(state.time, "Asia/Tokyo", "")} JST`;
}
