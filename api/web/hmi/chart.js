// Yesterday, today, tomorrow: what happened (full) and what is planned (pale), stacked by kind of source.
import { clock, h, kw, percent, s, t } from "./words.js";

const HOUR = 3600e3, STEP = 600e3, SPAN = 24 * HOUR;
const KINDS = ["hydro", "diesel", "cell", "solar"];
const LEFT = 46, RIGHT = 50, TOP = 12, BOTTOM = 24;

// One list of slices {from, to, hydro, diesel, cell, solar, charge, load, soc} from the past and from the plan.
export function slices(site, past, plan, now) {
  const of = (kind) => site.assets.filter((a) => a.kind === kind).map((a) => a.id);
  const ids = { hydro: of("hydro"), diesel: of("diesel"), cell: of("inverter"), solar: of("solar"), battery: site.assets.filter((a) => a.kind === "battery") };
  const found = [];
  (past?.time || []).forEach((at, k) => {
    const from = Date.parse(at), read = (name) => past.columns[name]?.[k];
    if (read("load_kw") == null || from >= now) return;
    found.push({ from, to: Math.min(from + STEP, now), ...slice(ids, (id) => read(`${id}.power_kw`), (id) => read(`${id}.soc`)), load: read("load_kw") });
  });
  let from = plan ? Date.parse(plan.grid.start) : 0;
  (plan?.grid.step_s || []).forEach((step, k) => {
    const to = from + step * 1e3;
    if (to > now && from < now + SPAN) {
      found.push({ from: Math.max(from, now), to: Math.min(to, now + SPAN), planned: true, ...slice(ids, (id) => plan.power_kw[id]?.[k], (id) => plan.soc[id]?.[k + 1]), load: plan.load_kw[k] });
    }
    from = to;
  });
  return found;
}

function slice(ids, power, soc) {
  const sum = (list) => list.reduce((total, id) => total + Math.max(0, power(id) ?? 0), 0);
  const stored = ids.battery.filter((b) => soc(b.id) != null);
  const capacity = stored.reduce((total, b) => total + b.capacity_kwh, 0);
  return {
    hydro: sum(ids.hydro), diesel: sum(ids.diesel), cell: sum(ids.cell), solar: sum(ids.solar),
    charge: ids.cell.reduce((total, id) => total + Math.min(0, power(id) ?? 0), 0),
    soc: capacity ? stored.reduce((total, b) => total + soc(b.id) * b.capacity_kwh, 0) / capacity : null,
  };
}

export function names(site) {
  const powered = site.assets.filter((a) => ["hydro", "diesel", "inverter", "solar"].includes(a.kind)).map((a) => `${a.id}.power_kw`);
  return ["load_kw", ...powered, ...site.assets.filter((a) => a.kind === "battery").map((a) => `${a.id}.soc`)].slice(0, 50);
}

export function paint(place, site, list, now) {
  const width = Math.max(320, place.clientWidth), height = width < 600 ? 230 : 280, zone = site.site.timezone;
  const top = nice(Math.max(10, ...list.map((p) => Math.max(p.load ?? 0, p.hydro + p.diesel + p.cell + p.solar))));
  const low = Math.min(0, ...list.map((p) => p.charge)), bottom = low < 0 ? -nice(-low, top) : 0;
  const x = (at) => LEFT + ((at - now + SPAN) / (2 * SPAN)) * (width - LEFT - RIGHT);
  const y = (v) => TOP + ((top - v) / (top - bottom)) * (height - TOP - BOTTOM);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": t("chart.aria") });
  svg.append(...grid(x, y, top, bottom, width, height, now, zone));
  for (const planned of [false, true]) {
    const part = list.filter((p) => !!p.planned === planned), group = s("g", { class: planned ? "planned" : "past" });
    let floor = () => 0;
    for (const kind of KINDS) {
      const under = floor, over = (p) => under(p) + p[kind];
      group.append(...runs(part).map((run) => s("path", { class: `a-${kind}`, d: area(run, x, y, under, over) })));
      floor = over;
    }
    group.append(...runs(part).map((run) => s("path", { class: "a-cell charge", d: area(run, x, y, () => 0, (p) => p.charge) })));
    group.append(...lines(part, x, (p) => (p.soc == null ? null : y(p.soc * top)), "l-soc"), ...lines(part, x, (p) => (p.load == null ? null : y(p.load)), "l-load"));
    svg.append(group);
  }
  svg.append(s("line", { class: "now", x1: x(now), x2: x(now), y1: 2, y2: height - BOTTOM }), s("text", { x: x(now) + 5, y: 11 }, t("chart.now")));
  if (!list.some((p) => p.planned)) svg.append(s("text", { class: "empty", x: x(now + SPAN / 2), y: y(top / 2), "text-anchor": "middle" }, t("chart.noplan")));
  place.replaceChildren(svg, readout(svg, list, x, { width, height, top, now, zone }));
}

function grid(x, y, top, bottom, width, height, now, zone) {
  const found = [];
  for (let k = bottom < 0 ? -Math.round((-bottom / top) * 4) : 0; k <= 4; k += 1) {
    const v = (top * k) / 4;
    found.push(s("line", { class: k ? "rule" : "rule zero", x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }), s("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, kw(v)));
    if (k >= 0 && k % 2 === 0) found.push(s("text", { class: "soc", x: width - RIGHT + 6, y: y(v) + 4 }, percent(k / 4)));
  }
  const every = width < 600 ? 12 : width < 1000 ? 6 : 3;
  for (let at = Math.ceil((now - SPAN) / HOUR) * HOUR; at <= now + SPAN; at += HOUR) {
    const text = clock(at, zone, ""), hour = Number(text.slice(0, 2));
    if (hour % every) continue;
    found.push(s("line", { class: hour ? "tick" : "tick day", x1: x(at), x2: x(at), y1: hour ? height - BOTTOM : TOP, y2: height - BOTTOM + 4 }));
    if (x(at) > LEFT + 12 && x(at) < width - RIGHT - 12) found.push(s("text", { x: x(at), y: height - 6, "text-anchor": "middle" }, hour ? text : clock(at, zone, "d").replace(/[, ]*00:00$/, "")));
  }
  return found;
}

// Pieces without a gap between them: a hole in the data stays a hole in the picture.
function runs(list) {
  const found = [];
  for (const p of list) {
    const last = found.at(-1)?.at(-1);
    if (last && p.from - last.to < 1000) found.at(-1).push(p);
    else found.push([p]);
  }
  return found;
}

function area(run, x, y, under, over) {
  const there = run.map((p) => `L${x(p.from).toFixed(1)} ${y(over(p)).toFixed(1)}L${x(p.to).toFixed(1)} ${y(over(p)).toFixed(1)}`).join("");
  const back = [...run].reverse().map((p) => `L${x(p.to).toFixed(1)} ${y(under(p)).toFixed(1)}L${x(p.from).toFixed(1)} ${y(under(p)).toFixed(1)}`).join("");
  return `M${there.slice(1)}${back}Z`;
}

function lines(list, x, height, name) {
  return runs(list.filter((p) => height(p) != null)).map((run) => s("path", { class: name, d: `M${run.map((p) => `${x((p.from + p.to) / 2).toFixed(1)} ${height(p).toFixed(1)}`).join("L")}` }));
}

function nice(v, fit = 0) {
  if (fit) return (Math.ceil((v * 4) / fit) * fit) / 4;
  const unit = 10 ** Math.floor(Math.log10(v));
  return [1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10].map((m) => m * unit).find((m) => m >= v * 1.02) ?? 20 * unit;
}

function readout(svg, list, x, { width, height, top, now, zone }) {
  const box = h("div.readout", { hidden: true }), hair = s("line", { class: "hair", y1: TOP, y2: height - BOTTOM });
  svg.append(hair);
  svg.addEventListener("pointerleave", () => { box.hidden = true; hair.setAttribute("visibility", "hidden"); });
  svg.addEventListener("pointermove", (event) => {
    const at = now - SPAN + ((event.offsetX - LEFT) / (width - LEFT - RIGHT)) * 2 * SPAN;
    const p = list.find((q) => q.from <= at && at < q.to);
    box.hidden = !p;
    hair.setAttribute("visibility", p ? "visible" : "hidden");
    if (!p) return;
    for (const end of ["x1", "x2"]) hair.setAttribute(end, x(at));
    const rows = [["load", p.load], ...["solar", "cell", "diesel", "hydro"].map((k) => [k, k === "cell" ? p.cell + p.charge : p[k]])].filter(([, v]) => v != null);
    box.replaceChildren(h("b", null, `${clock(p.from, zone, "d")}${p.planned ? ` ${t("chart.plan")}` : ""}`), ...rows.map(([k, v]) => h("span", null, h("span", null, t(`source.${k}`)), h("span", null, `${kw(v)} kW`))), p.soc != null && h("span", null, h("span", null, t("soc")), h("span", null, percent(p.soc))));
    box.style.setProperty("left", `${Math.min(x(at) + 12, width - 170)}px`);
    if (x(at) > width - 190) box.style.setProperty("left", `${x(at) - 172}px`);
  });
  return box;
}

export function legend(place, site) {
  const shown = { solar: "solar", cell: "inverter", diesel: "diesel", hydro: "hydro" };
  place.replaceChildren(
    ...Object.entries(shown).filter(([, kind]) => site.assets.some((a) => a.kind === kind)).map(([k]) => h("span", null, h(`i.c-${k}`), t(`source.${k}`))),
    h("span", null, h("i.line"), t("source.load")), h("span", null, h("i.line.soc"), t("soc")), h("span.pale", null, t("chart.pale")));
}
