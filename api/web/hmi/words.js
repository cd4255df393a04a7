// Words, numbers and times in the reader's language, and the one way this page makes elements.

const LANGUAGES = ["en", "ja"];
let words = {};
export let lang = "en";

export function chosen() {
  const kept = localStorage.getItem("lang");
  return LANGUAGES.includes(kept) ? kept : (navigator.language || "en").startsWith("ja") ? "ja" : "en";
}

export async function speak(next) {
  const found = await fetch(`/static/${next}.json`);
  if (!found.ok) throw new Error(`words ${found.status}`);
  words = await found.json();
  lang = next;
  localStorage.setItem("lang", next);
  document.documentElement.lang = next;
  for (const el of document.querySelectorAll("[data-t]")) el.textContent = t(el.dataset.t);
}

export function has(key) { return key in words; }

export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// A word for a code that may be newer than this page: then the code itself.
export function word(group, code) {
  const key = `${group}.${code}`;
  return has(key) ? t(key) : String(code).replaceAll("_", " ");
}

export const both = (text) => (text && (text[lang] || text.en)) || "";

export function num(value, digits = 0) {
  if (value == null || !Number.isFinite(value)) return "–";
  const shown = value.toLocaleString(lang === "ja" ? "ja-JP" : "en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return shown.replace(/^-(0(\.0+)?)$/, "$1").replace("-", "−");
}

export const kw = (value) => num(value, value != null && Math.abs(value) >= 0.05 && Math.abs(value) < 9.95 ? 1 : 0);
export const percent = (ratio, digits = 0) => (ratio == null ? "–" : `${num(ratio * 100, digits)} %`);

export function span(seconds) {
  if (seconds == null) return "–";
  const s = Math.round(seconds), m = Math.round(s / 60);
  if (s < 90) return t("span.s", { n: s });
  if (m < 90) return t("span.m", { n: m });
  if (m < 60 * 48) return t("span.h", { h: Math.floor(m / 60), m: m % 60 });
  return t("span.d", { n: Math.round(m / 1440) });
}

const formats = new Map();
export function clock(at, zone, shape) {
  const key = `${lang} ${zone} ${shape}`;
  if (!formats.has(key)) {
    const parts = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    if (shape.includes("s")) parts.second = "2-digit";
    if (shape.includes("d")) Object.assign(parts, { month: "short", day: "numeric" });
    if (shape.includes("w")) parts.weekday = "short";
    formats.set(key, new Intl.DateTimeFormat(lang === "ja" ? "ja-JP" : "en-GB", { timeZone: zone, ...parts }));
  }
  return formats.get(key).format(new Date(at));
}

// h("button.quiet", {onclick}, "text", child): text is always text, never markup.
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split(".");
  const el = document.createElement(name);
  if (classes.length) el.className = classes.join(" ");
  fill(el, props, children);
  return el;
}

const SVG = "http://www.w3.org/2000/svg";
export function s(tag, props, ...children) {
  const el = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props || {})) if (value != null) el.setAttribute(key, value);
  el.append(...children.flat().filter((c) => c != null));
  return el;
}

function fill(el, props, children) {
  for (const [key, value] of Object.entries(props || {})) {
    if (value == null || value === false) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, v] of Object.entries(value)) el.style.setProperty(name, v);
    else if (key in el && typeof value !== "string") el[key] = value;
    else el.setAttribute(key, value);
  }
  el.append(...children.flat().filter((c) => c != null && c !== false));
}
