// The wire: requests with the token, problems in words, and the stream that is kept open for ever.
import { has, t, word } from "./words.js";

const API = "/api/v1/";
let session = JSON.parse(sessionStorage.getItem("session") || "null"); // {token, name, role, renew_at}
export const person = () => session;
let onSession = () => {};
export const whenSessionChanges = (call) => { onSession = call; };

function keep(next) {
  session = next;
  if (next) sessionStorage.setItem("session", JSON.stringify(next));
  else sessionStorage.removeItem("session");
  onSession();
}

export class Refused extends Error {
  constructor(status, body) {
    super(body?.detail || `HTTP ${status}`);
    this.status = status;
    this.body = body || {};
  }
  get words() {
    const key = `err.${this.body.code}`;
    const said = has(key) ? t(key, this.body) : t("err.other", { status: this.status });
    return this.body.detail && this.body.code === "invalid" ? `${said} ${this.body.detail}` : said;
  }
}

export async function call(method, path, body, headers = {}) {
  const head = { ...headers };
  if (session) head.Authorization = `Bearer ${session.token}`;
  if (body !== undefined) head["Content-Type"] = "application/json";
  let found;
  try {
    found = await fetch(API + path, { method, headers: head, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Refused(0, { code: "no_link" });
  }
  const answer = await found.json().catch(() => null);
  if (found.status === 401 && session && path !== "auth/token") keep(null);
  if (!found.ok) throw new Refused(found.status, answer);
  return { body: answer, etag: found.headers.get("ETag") };
}

export const get = async (path) => (await call("GET", path)).body;

export async function signIn(username, password) {
  const { body } = await call("POST", "auth/token", { username, password });
  await adopt(body);
}

async function adopt(body) {
  session = { token: body.access_token };
  const me = await get("auth/me");
  keep({ token: body.access_token, name: me.name, role: me.role, renew_at: Date.now() + body.expires_in * 600 });
}

export async function signOut() {
  await call("POST", "auth/logout").catch(() => {});
  keep(null);
}

// Renewed at 60 % of its life; when that is refused the page asks for the password at the next order.
export async function renewIfDue() {
  if (!session || Date.now() < session.renew_at) return;
  session.renew_at = Date.now() + 60000;
  await call("POST", "auth/renew").then(({ body }) => adopt(body)).catch(() => {});
}

const ROLES = ["viewer", "operator", "engineer", "admin"];
export const may = (role) => !!session && ROLES.indexOf(session.role) >= ROLES.indexOf(role);
export const roleWord = () => (session ? word("role", session.role) : "");

// fetch, not EventSource: that one cannot send the token.
export async function listen(take, lost) {
  let wait = 500;
  for (;;) {
    const ended = new AbortController();
    let watch;
    try {
      const head = session ? { Authorization: `Bearer ${session.token}` } : {};
      const found = await fetch(`${API}stream`, { headers: head, cache: "no-store", signal: ended.signal });
      if (!found.ok) throw new Refused(found.status, await found.json().catch(() => null));
      wait = 500;
      const alive = () => { clearTimeout(watch); watch = setTimeout(() => ended.abort(), 40000); }; // two comment lines missed: half-open link
      alive();
      await read(found.body.getReader(), take, alive);
      lost(new Refused(0, { code: "no_link" }));
    } catch (fault) {
      lost(fault instanceof Refused ? fault : new Refused(0, { code: "no_link" }));
    }
    clearTimeout(watch);
    await new Promise((go) => setTimeout(go, wait * (0.75 + Math.random() / 2)));
    wait = Math.min(wait * 2, 15000);
  }
}

async function read(reader, take, alive) {
  const text = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    rest += text.decode(value, { stream: true });
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const event = lines.find((l) => l.startsWith("event: "))?.slice(7);
      const data = lines.filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("");
      if (event && data) take(event, JSON.parse(data));
    }
  }
}

// As RFC 7396, but a key that becomes null stays: it says that the value is missing now.
export function merge(into, change) {
  for (const [key, value] of Object.entries(change)) {
    if (value && typeof value === "object" && !Array.isArray(value) && into[key] && typeof into[key] === "object") merge(into[key], value);
    else into[key] = value;
  }
  return into;
}
