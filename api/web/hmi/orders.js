// Everything a person can change: each asks for a reason and a confirmation, and shows what came of it.
import { h, t, word } from "./words.js";
import { Refused, call, get, may, person, signIn } from "./net.js";

const FINAL = ["done", "rejected", "expired"];
const WAIT_MS = 120000;
const REASONS = ["maintenance", "weather", "test", "noise", "fuel"];

let lists = 0;
const dialog = () => document.getElementById("dialog");

export function show(title, ...parts) {
  const close = h("button.quiet.close", { type: "button", "aria-label": t("close"), onclick: () => dialog().close() }, "×");
  dialog().replaceChildren(h("div.head", null, h("h3", { id: "dialog-title" }, title), close), ...parts);
  if (!dialog().open) dialog().showModal();
}

export function said(place, text, kind = "") {
  place.className = `said ${kind}`;
  place.textContent = text;
  place.setAttribute("role", kind === "bad" ? "alert" : "status");
}

export function needsSignIn(role, back) {
  if (may(role)) return null;
  const text = person() ? t("role.needed", { role: word("role", role) }) : t("signin.needed");
  return h("p.hint", null, text, " ", h("button", { type: "button", onclick: () => loginForm(back) }, t(person() ? "signin.other" : "signin")));
}

export function loginForm(then) {
  const name = h("input", { name: "username", autocomplete: "username", required: true, autocapitalize: "none", spellcheck: "false" });
  const pass = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const note = h("p.said");
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    try {
      await signIn(name.value.trim(), pass.value);
      dialog().close();
      then?.();
    } catch (fault) {
      said(note, fault.words ?? String(fault), "bad");
      pass.value = "";
      pass.focus();
    }
  } }, field(t("username"), name), field(t("password"), pass), h("div.row", null, h("button.main", { type: "submit" }, t("signin"))), note);
  show(t("signin"), form);
  name.focus();
}

export const field = (label, input, unit) => h("label.field", null, h("span", null, label), input, unit && h("small", null, unit));

export function reasonInput() {
  const id = `reasons-${(lists += 1)}`, list = h("datalist", { id }, ...REASONS.map((r) => h("option", { value: t(`reasons.${r}`) })));
  const input = h("input", { name: "reason", required: true, maxLength: 500, placeholder: t("reason.hint") });
  input.setAttribute("list", id);
  return { input, el: h("div", null, field(t("reason"), input), list) };
}

// The button turns into a question; only the second press sends.
export function confirm(place, question, yes, danger = false) {
  const button = h(`button.${danger ? "danger" : "main"}`, { type: "button", onclick: () => { place.replaceChildren(); yes(); } }, t("confirm"));
  place.replaceChildren(h("div.confirm", null, h("p", null, question), h("div.row", null, button, h("button", { type: "button", onclick: () => place.replaceChildren() }, t("cancel")))));
  button.focus();
}

export async function order(path, body, note) {
  try {
    said(note, t("order.sending"));
    const { body: sent } = await call("POST", path, body, { "Idempotency-Key": crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` });
    await follow(sent.id, note);
  } catch (fault) {
    said(note, fault instanceof Refused ? fault.words : String(fault), "bad");
  }
}

async function follow(id, note) {
  const until = Date.now() + WAIT_MS;
  while (Date.now() < until && note.isConnected) {
    const now = await get(`commands/${id}`);
    const text = [word("status", now.status), now.cause && word("cause", now.cause), now.result && word("result", now.result)].filter(Boolean).join(" · ");
    said(note, text, now.status === "done" && !now.cause ? "good" : FINAL.includes(now.status) ? "bad" : "");
    if (FINAL.includes(now.status)) return;
    await new Promise((go) => setTimeout(go, 1000));
  }
}

export function modeDialog(state, site) {
  const back = () => modeDialog(state, site);
  const reason = reasonInput(), ask = h("div"), note = h("p.said");
  const send = (path, body) => () => (reason.input.reportValidity() ? confirm(ask, body.question, () => order(path, { ...body.body, reason: reason.input.value }, note), body.danger) : null);
  const modes = ["auto", "manual"].map((m) => h("button", { type: "button", onclick: send("mode", { body: { mode: m }, question: t(`ask.mode.${m}`) }) }, word("mode", m)));
  const stop = h("button.danger", { type: "button", onclick: () => confirm(ask, t("ask.stop"), () => order("stop", { reason: reason.input.value || t("stop") }, note), true) }, t("stop"));
  const locked = needsSignIn("operator", back);
  show(t("mode"), h("p", null, t("mode.now", { mode: word("mode", state.mode) })), h("p.hint", null, t("mode.hint")),
    locked || h("div", null, reason.el, h("div.row", null, ...modes, h("span.grow"), stop), state.formers.length || state.mode === "blackstart" ? null : blackStart(site, reason, ask, note)), ask, note);
}

// Only while no unit holds the bus: who brings it up is chosen, or left to the EMS.
function blackStart(site, reason, ask, note) {
  const able = site.assets.filter((a) => ["inverter", "diesel"].includes(a.kind) && a.forming !== "never");
  const former = h("select", { name: "former" }, h("option", { value: "" }, t("black.best")), ...able.map((a) => h("option", { value: a.id }, a.id)));
  const begin = () => {
    if (!reason.input.reportValidity()) return;
    const body = { mode: "black_start", reason: reason.input.value, ...(former.value && { former: former.value }) };
    confirm(ask, t("ask.black", { unit: former.value || t("black.best") }), () => order("mode", body, note), true);
  };
  return h("section", null, h("p.hint", null, t("black.hint")), h("div.row", null, field(t("black.former"), former), h("button.danger", { type: "button", onclick: begin }, t("black.start"))));
}

export function stageDialog(state) {
  const reason = reasonInput(), ask = h("div"), note = h("p.said");
  const choose = (stage) => h("button", { type: "button", "aria-pressed": String(stage === state.stage), onclick: () => {
    if (reason.input.reportValidity()) confirm(ask, t(`ask.stage.${stage}`), () => order("stage", { stage, reason: reason.input.value }, note), stage === "control");
  } }, word("stage", stage));
  const locked = needsSignIn("engineer", () => stageDialog(state));
  show(t("stage"), h("p", null, t("stage.now", { stage: word("stage", state.stage) })), h("p.hint", null, t("stage.hint")), locked || h("div", null, reason.el, h("div.row", null, ...["shadow", "advise", "control"].map(choose))), ask, note);
}
