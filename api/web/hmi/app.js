// The page: takes the stream, keeps one picture of the island, and draws it.
import { both, chosen, clock, h, has, kw, lang, num, percent, span, speak, t, word } from "./words.js";
import { call, get, listen, may, merge, person, renewIfDue, roleWord, signOut, whenSessionChanges } from "./net.js";
import { arrange, draw, forget, stamp } from "./diagram.js";
import { legend, names, paint, slices } from "./chart.js";
import { loginForm, modeDialog, stageDialog } from "./orders.js";
import { unitPanel } from "./panel.js";

const $ = (id) => document.getElementById(id);
const SILENT_MS = 5000, CHART_EVERY_MS = 30000, CHART_STEP_MS = 600e3, SHOWN = 6;

const world = {
  site: null, state: null, alarms: [], explain: {}, plan: null, past: null, summary: null,
  heard: 0, fault: null, chartAt: 0, chartSite: 0, planId: undefined, allWhy: false, refreshPanel: null,
  unit(id) { const { up, down } = arrange(this.site); return [...up, ...down].find((u) => u.id === id); },
  seen(id) { return this.state.assets[id] ?? this.state.feeders?.[id] ?? {}; },
};

function take(event, data) {
  if (event === "state") world.state = data;
  else if (event === "change" && world.state) merge(world.state, data);
  else if (event === "alarms") world.alarms = data;
  else if (event === "explain") merge(world.explain, data);
  world.heard = Date.now();
  world.fault = null;
  if (world.state && world.site) render();
}

function render() {
  const { site, state } = world;
  draw(site, state, world.explain, world.alarms, (id) => unitPanel(world, id));
  $("times").textContent = stamp(state, site);
  pills(state);
  alarms();
  why();
  reserve(state);
  tiles(state);
  banner();
  world.refreshPanel?.();
  chartIfDue();
}

function pills(state) {
  const plan = state.plan?.id ? t("pill.plan", { age: span(state.plan.age_s), source: word("source.plan", state.plan.source) }) : t("pill.noplan", { source: word("source.plan", state.plan?.source ?? "none") });
  const pill = (text, value, open, odd) => h(`${open ? "button" : "span"}.pill${odd ? ".odd" : ""}`, open && { type: "button", onclick: open }, text, value && h("b", null, ` ${value}`));
  const open = world.alarms.filter((a) => !a.acked_by).length;
  const made = [
    open && pill(t("pill.alarms", { n: open }), "", () => $("h-alarms").scrollIntoView({ block: "center" }), true),
    pill(t("mode"), word("mode", state.mode), () => modeDialog(world.state, world.site), state.mode !== "auto"),
    pill(t("stage"), word("stage", state.stage), () => stageDialog(world.state), false),
    pill(plan, "", null, state.plan?.source !== "mpc"),
    state.clock?.synced === false && pill(t("pill.clock"), "", null, true),
  ].filter(Boolean);
  const key = made.map((p) => p.className + p.textContent).join();
  if ($("pills").dataset.key !== key) { $("pills").replaceChildren(...made); $("pills").dataset.key = key; }
}

function alarms() {
  const order = ["critical", "major", "warning"];
  const list = [...world.alarms].sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
  $("alarm-count").textContent = list.length ? t("alarms.count", { n: list.length }) : "";
  const key = JSON.stringify(list) + lang + person()?.role;
  if ($("alarms").dataset.key === key) return;
  $("alarms").dataset.key = key;
  const row = (a) => h(`div.alarm.${a.severity}`, null,
    h(`span.sign.${a.severity}`, { "aria-hidden": "true" }),
    h("div", null, h("b", null, `${word("severity", a.severity)}: `), both(a.text), h("small", null, `${a.asset ? `${a.asset} · ` : ""}${clock(a.raised_at, world.site.site.timezone, "d")}${a.acked_by ? ` · ${t("acked", { by: a.acked_by })}` : ""}`)),
    a.acked_by ? h("span") : h("button", { type: "button", onclick: (e) => ack(a, e.target) }, t("ack")));
  $("alarms").replaceChildren(...(list.length ? list.map(row) : [h("p.calm", null, t("alarms.none"))]));
}

async function ack(alarm, button) {
  if (!may("operator")) return loginForm(() => ack(alarm, button));
  button.disabled = true;
  try {
    await call("POST", `alarms/${encodeURIComponent(alarm.id)}/ack`, { reason: t("ack.reason") });
    button.textContent = t("ack.sent");
  } catch (fault) {
    button.disabled = false;
    button.after(h("small.said.bad", null, fault.words ?? String(fault)));
  }
}

// What deserves a sentence first: what is out of the ordinary, then what burns fuel, then what is held back.
const DULL = ["follows_sun", "follows_river", "not_needed", "supplied"];
function weight(id, e) {
  if (["fault", "unseen", "local", "safe", "operator", "reserve", "former_needed", "shed", "black_start"].includes(e.reason)) return 0;
  if (world.unit(id)?.kind === "diesel" && Math.abs(world.seen(id).power_kw ?? 0) > 1) return 1;
  if (e.limited_by?.length || e.reason === "surplus") return 2;
  return DULL.includes(e.reason) ? 4 : 3;
}

function why() {
  const list = Object.entries(world.explain).filter(([, e]) => e).map(([id, e]) => [weight(id, e), both(e.text)]).sort((a, b) => a[0] - b[0]);
  const shown = world.allWhy ? list : list.slice(0, SHOWN);
  const key = JSON.stringify(shown) + lang;
  if ($("why").dataset.key === key) return;
  $("why").dataset.key = key;
  const more = list.length > SHOWN && h("li.more", null, h("button.quiet", { type: "button", onclick: () => { world.allWhy = !world.allWhy; why(); } }, t(world.allWhy ? "why.less" : "why.more", { n: list.length - SHOWN })));
  $("why").replaceChildren(...shown.map(([, text]) => h("li", null, ...strong(text))), ...(more ? [more] : []));
}

const strong = (text) => text.split(/((?:[−-]?\d[\d.,]*)\s?(?:kW|kWh|min|%|L)\b)/).map((part, k) => (k % 2 ? h("b.num", null, part) : part));

function reserve(state) {
  const r = state.reserve, short = r.available_kw < r.required_kw, most = Math.max(r.available_kw, r.required_kw, 1) * 1.1;
  const [what, unit] = r.contingency.startsWith("loss of ") ? ["loss", r.contingency.slice(8)] : r.contingency.startsWith("sole former ") ? ["sole", r.contingency.slice(12)] : [r.contingency, ""];
  $("reserve").replaceChildren(
    h("div.two", null, h("span", null, `${t("reserve.available")} `, h("b", null, `${num(r.available_kw)} kW`)), h("span", null, `${t("reserve.required")} `, h("b", null, `${num(r.required_kw)} kW`))),
    h(`div.bar.tall${short ? ".short" : ""}`, null, h("i", { style: { width: `${(r.available_kw / most) * 100}%` } }), h("b", { style: { left: `${(r.required_kw / most) * 100}%` } })),
    h("small", null, [short ? t("reserve.short", { kw: num(r.required_kw - r.available_kw) }) : "", has(`reserve.${what}`) ? t(`reserve.${what}`, { unit }) : r.contingency, t("reserve.energy", { kwh: num(r.energy_kwh) }), r.time_to_empty_s == null ? "" : t("reserve.empty", { span: span(r.time_to_empty_s) })].filter(Boolean).join(t("list.stop"))));
}

function tiles(state) {
  const today = world.summary?.today ?? {}, credited = world.summary?.credited?.reductions_t;
  const tanks = world.site.assets.filter((a) => a.kind === "tank").map((a) => [a, state.assets[a.id]?.level_l]).filter(([, l]) => l != null);
  const tile = (key, value, unit) => h("div.tile", null, h("div.k", null, t(key)), h("div.v", null, value, unit && h("small", null, ` ${unit}`)));
  $("tiles").replaceChildren(
    tile("tile.share", percent(state.renewable_fraction)),
    tile("tile.diesel", num(today.diesel_l), "L"),
    tile("tile.co2", num(state.co2?.displaced_kg_today), "kg"),
    ...(credited == null ? [] : [tile("tile.credited", num(credited, 1), "t")]),
    ...(tanks.length ? [tile("tile.tank", num(tanks.reduce((sum, [a, l]) => sum + Math.max(0, l - (a.unusable_l ?? 0)), 0)), "L")] : []),
    ...(state.unserved_kw > 0.5 ? [tile("tile.unserved", kw(state.unserved_kw), "kW")] : []));
}

function banner() {
  const silent = Date.now() - world.heard > SILENT_MS;
  const last = world.state ? t("link.last", { at: clock(world.state.time, world.site?.site.timezone ?? "UTC", "s") }) : "";
  const text = world.fault?.status === 401 ? t("link.signin") : world.fault?.body.code === "no_cycle" ? t("link.nocycle") : silent && (world.heard || world.fault) ? `${t(world.fault ? "link.lost" : "link.silent")} ${last}` : "";
  document.body.classList.toggle("lost", !!text);
  $("banner").hidden = !text;
  if ($("banner").textContent !== text) $("banner").textContent = text;
}

async function chartIfDue() {
  const now = Date.parse(world.state.time), older = now - world.chartSite >= CHART_STEP_MS || world.planId !== world.state.plan?.id;
  if (!older || Date.now() - world.chartAt < CHART_EVERY_MS) return;
  Object.assign(world, { chartAt: Date.now(), chartSite: now, planId: world.state.plan?.id });
  const from = new Date(now - 24 * 3600e3).toISOString(), to = new Date(now).toISOString();
  const [past, plan, summary] = await Promise.all([
    get(`history?points=${names(world.site).join()}&from=${from}&to=${to}&step=10m`).catch(() => null), get("plan").catch(() => null), get("mrv/summary").catch(() => null)]);
  Object.assign(world, { past: past ?? world.past, plan: plan ?? world.plan, summary: summary ?? world.summary });
  picture();
  tiles(world.state);
}

function picture() {
  if (!world.state || !world.site) return;
  const now = Date.parse(world.state.time), usable = world.plan?.grid && Date.parse(world.plan.valid_until) > now ? world.plan : null;
  paint($("chart"), world.site, slices(world.site, world.past, usable, now), now);
  legend($("legend"), world.site);
  $("unmet").replaceChildren(...(usable?.unmet ?? []).map((u) => h("li", null, both(u))));
}

async function events() {
  const list = await get("events?limit=30").catch(() => []);
  const row = (e) => h("li", null, h("time", null, clock(e.at, world.site.site.timezone, "ds")), h("span", null, `${e.asset ? `${e.asset} · ` : ""}${word("event", e.kind)}: ${e.reason}`), h("small", null, e.by));
  $("event-list").replaceChildren(...list.reverse().map(row));
}

async function language(next) {
  await speak(next);
  $("lang").textContent = next === "ja" ? "English" : "日本語";
  $("lang").lang = next === "ja" ? "en" : "ja";
  session();
  if (!world.site) return;
  const name = both(world.site.site.name);
  $("name").textContent = name;
  document.title = `${name} – Shima EMS`;
  forget();
  for (const id of ["alarms", "why", "pills"]) delete $(id).dataset.key;
  if (world.state) { render(); picture(); }
}

function session() {
  $("who").textContent = person() ? `${person().name ?? ""} (${roleWord()}) · ${t("signout")}` : t("signin");
}

async function start() {
  $("lang").addEventListener("click", () => language(lang === "ja" ? "en" : "ja"));
  $("who").addEventListener("click", () => (person() ? signOut() : loginForm()));
  $("events").addEventListener("toggle", () => $("events").open && world.site && events());
  $("dialog").addEventListener("click", (e) => e.target === $("dialog") && $("dialog").close());
  whenSessionChanges(() => { session(); if (world.site && world.state) render(); });
  await language(chosen());
  const fetchSite = async () => { world.site = await get("site"); await language(lang); };
  await fetchSite().catch((fault) => { world.fault = fault; });
  new ResizeObserver(picture).observe($("chart"));
  setInterval(() => { banner(); renewIfDue(); if ($("events").open && world.site && !world.fault) events(); }, 5000);
  setInterval(banner, 1000);
  listen(async (event, data) => { if (!world.site) await fetchSite().catch(() => {}); take(event, data); }, (fault) => { world.fault = fault; banner(); });
  document.body.classList.add("ready");
}

start();
