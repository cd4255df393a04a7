// One unit: why it does what it does, what is measured, its limits, and what can be ordered.
import { both, clock, h, kw, num, percent, span, t, word } from "./words.js";
import { Refused, call, get, may } from "./net.js";
import { batteriesOf, kindWord } from "./diagram.js";
import { confirm, field, needsSignIn, order, reasonInput, said, show } from "./orders.js";

const ACTIONS = { diesel: ["start", "stop", "set"], hydro: ["start", "stop", "set"], inverter: ["set"], solar: ["set"], deferrable: ["start", "stop", "set"], feeder: ["shed", "restore"] };
const LIMITS = { solar: ["max_kw"], hydro: ["max_kw", "min_kw"], diesel: ["max_kw", "min_kw"], inverter: ["max_kw"], deferrable: ["max_kw"], battery: ["soc_min", "soc_max"] };
const COMMAND_MS = 10 * 60e3; // asked in site time: 15 min is the most that is taken

export function unitPanel(world, id) {
  const { site, state, explain } = world;
  const unit = world.unit(id), again = () => unitPanel(world, id);
  const why = explain[id]?.text, cells = batteriesOf(site, id);
  const live = h("dl.facts");
  facts(live, world, unit, cells);
  show(`${kindWord(site, unit)} ${id}`,
    why && h("p.whybig", null, both(why)),
    live,
    ACTIONS[unit.kind] && section(t("commands"), needsSignIn("operator", again) || commands(world, unit), h("ul.past", { id: "past" })),
    ...[unit, ...cells].filter((u) => LIMITS[u.kind]).map((u) => section(cells.length ? `${t("limits")} – ${word("kind", u.kind)} ${u.id}` : t("limits"), limits(world, u, again))));
  recent(world, id);
  world.refreshPanel = () => (document.getElementById("dialog").open && live.isConnected ? facts(live, world, unit, cells) : (world.refreshPanel = null));
}

const section = (title, ...parts) => h("section", null, h("h4", null, title), ...parts);

function facts(place, world, unit, cells) {
  const { state } = world, seen = world.seen(unit.id);
  const row = (key, value, unitText = "") => (value == null ? [] : [h("dt", null, t(key)), h("dd", null, value, unitText && h("small", null, ` ${unitText}`))]);
  const forming = state.formers?.includes(unit.id);
  place.replaceChildren(
    ...row("power", kw(seen.power_kw), `kW ${t("of")} ${num(unit.rated_kw)}`),
    ...(unit.kind === "feeder" ? [] : row("setpoint", forming ? t("setpoint.forming") : seen.setpoint_kw == null ? "–" : kw(seen.setpoint_kw), forming || seen.setpoint_kw == null ? "" : "kW")),
    ...("available_kw" in seen ? row("available", kw(seen.available_kw), "kW") : []),
    ...(seen.state != null && unit.kind === "diesel" ? row("phase", word("phase", seen.state)) : []),
    ...(unit.kind === "feeder" ? row("breaker", seen.closed == null ? "–" : t(seen.closed ? "closed" : "open")) : []),
    ...cells.flatMap((b) => row("soc.of", percent(state.assets[b.id]?.soc, 1), `${b.id}, ${num(b.capacity_kwh)} kWh`)),
    ...(seen.fuel_l != null ? row("fuel.counter", num(seen.fuel_l), "L") : []),
    ...(seen.quality ? row("quality", `${word("quality", seen.quality)}${seen.age_s == null ? "" : ` · ${t("age", { age: span(seen.age_s) })}`}`) : []),
    ...(seen.control ? row("control", word("control", seen.control)) : []),
  );
}

function commands(world, unit) {
  const reason = reasonInput(), ask = h("div"), note = h("p.said");
  const low = unit.kind === "inverter" ? -unit.rated_kw : 0;
  const power = h("input", { type: "number", step: "any", min: low, max: unit.rated_kw, inputMode: "decimal", "aria-label": t("power") });
  const send = (action) => {
    if (!reason.input.reportValidity()) return;
    if (action === "set" && (power.value === "" || !power.reportValidity())) return power.focus();
    const body = { action, expires_at: new Date(Date.parse(world.state.time) + COMMAND_MS).toISOString(), reason: reason.input.value };
    if (action === "set") body.power_kw = Number(power.value);
    const question = t(`ask.${action === "stop" ? "unit.stop" : action}`, { unit: unit.id, kw: kw(body.power_kw) }) + (["start", "stop", "set"].includes(action) ? ` ${t("ask.manual", { unit: unit.id })}` : "");
    confirm(ask, question, () => order(`assets/${unit.id}/command`, body, note).then(() => recent(world, unit.id)), ["stop", "shed"].includes(action));
  };
  const button = (action) => h("button", { type: "button", onclick: () => send(action) }, word("action", action));
  const has = ACTIONS[unit.kind];
  return h("div", null, reason.el,
    h("div.row", null, ...has.filter((a) => a !== "set").map(button), h("span.grow"), button("release")),
    has.includes("set") && h("div.row", null, field(t("setpoint"), power, "kW"), button("set")),
    ask, note);
}

async function recent(world, id) {
  const place = document.getElementById("past");
  const list = await get(`commands?asset=${encodeURIComponent(id)}&limit=5`).catch(() => []);
  place?.replaceChildren(...list.map((c) => h("li", null,
    h("b", null, word("action", c.action)), c.power_kw == null ? "" : ` ${kw(c.power_kw)} kW`, ` – ${word("status", c.status)}`, c.cause ? ` (${word("cause", c.cause)})` : "",
    h("small", null, ` ${c.by}, ${clock(c.at, world.site.site.timezone, "d")}: ${c.reason}`))));
}

function limits(world, unit, again) {
  const place = h("div", null, h("p.hint", null, "…"));
  load(place, world, unit, again);
  return place;
}

async function load(place, world, unit, again, note = h("p.said")) {
  let found;
  try {
    found = await call("GET", `limits/${unit.id}`);
  } catch (fault) {
    return place.replaceChildren(h("p.said.bad", null, fault.words ?? String(fault)));
  }
  const now = found.body, ratio = (key) => key.startsWith("soc");
  const locked = needsSignIn("operator", again);
  const inputs = Object.fromEntries(LIMITS[unit.kind].map((key) => {
    const [low, high] = ratio(key) ? [unit.soc_min * 100, unit.soc_max * 100] : [0, unit.rated_kw];
    const held = now[key] == null ? "" : ratio(key) ? Math.round(now[key] * 1000) / 10 : now[key];
    return [key, h("input", { type: "number", step: "any", min: low, max: high, value: String(held), disabled: !!locked, inputMode: "decimal", placeholder: num(key.includes("min") ? low : high, 0) })];
  }));
  const out = h("input", { type: "checkbox", checked: !!now.out_of_service, disabled: !!locked });
  const hours = h("input", { type: "number", min: 0.1, max: 168, step: "any", disabled: !!locked, inputMode: "decimal", placeholder: "–" });
  const forever = h("input", { type: "checkbox", disabled: !!locked, onchange: () => { hours.disabled = forever.checked; } });
  const reason = reasonInput(), ask = h("div");
  // An end that is set stays unless somebody says another one, or that there is none.
  const end = () => (forever.checked ? { expires_at: null } : hours.value ? { expires_at: new Date(Date.parse(world.state.time) + hours.value * 3600e3).toISOString() } : {});
  const save = () => {
    if (![...Object.values(inputs), hours, reason.input].every((i) => i.reportValidity())) return;
    const body = { out_of_service: out.checked, reason: reason.input.value, ...end() };
    for (const [key, input] of Object.entries(inputs)) body[key] = input.value === "" ? null : ratio(key) ? Number(input.value) / 100 : Number(input.value);
    confirm(ask, t("ask.limits", { unit: unit.id }), () => patch(place, world, unit, again, body, found.etag, note));
  };
  const held = now.by ? t("limits.by", { by: now.by, reason: now.reason }) + (now.expires_at ? ` ${t("limits.until", { at: clock(now.expires_at, world.site.site.timezone, "d") })}` : "") : t("limits.none");
  place.replaceChildren(h("p.hint", null, held),
    h("div.grid", null, ...Object.entries(inputs).map(([key, input]) => field(t(`limits.${key}`), input, ratio(key) ? "%" : "kW")), field(now.expires_at ? t("limits.hours.kept") : t("limits.hours"), hours, "h")),
    ...(now.expires_at ? [h("label.check", null, forever, h("span", null, t("limits.forever")))] : []),
    h("label.check", null, out, h("span", null, t("limits.out"))),
    ...(locked ? [may("viewer") ? locked : ""] : [reason.el, h("div.row", null, h("button", { type: "button", onclick: save }, t("limits.save")))]), ask, note);
}

async function patch(place, world, unit, again, body, etag, note) {
  try {
    await call("PATCH", `limits/${unit.id}`, body, { "If-Match": etag });
    said(note, t("limits.saved"), "good");
  } catch (fault) {
    said(note, fault instanceof Refused ? fault.words : String(fault), "bad");
    if (!(fault instanceof Refused) || fault.status !== 412) return;
  }
  await load(place, world, unit, again, note);
}
