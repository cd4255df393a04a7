// The API as a list, made from openapi.json on this machine: nothing is fetched from elsewhere.
import { h } from "./words.js";

const place = document.getElementById("routes");
const spec = await (await fetch("/openapi.json")).json();

const type = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.const) return schema.const;
  if (schema.anyOf) return schema.anyOf.map(type).join(" or ");
  return [schema.type, schema.format].filter(Boolean).join(", ");
};

function fields(schema) {
  const within = (s) => (s?.$ref ? schema.$defs?.[s.$ref.split("/").at(-1)] ?? s : s);
  return Object.entries(schema?.properties ?? {}).map(([name, s]) => h("tr", null,
    h("td", null, h("code", null, name)), h("td", null, schema.required?.includes(name) ? "required" : "optional"), h("td", null, type(within(s))), h("td", null, s.description ?? "")));
}

function route(path, method, op) {
  const body = op.requestBody?.content["application/json"]?.schema;
  const params = (op.parameters ?? []).map((p) => h("tr", null, h("td", null, h("code", null, p.name)), h("td", null, `${p.in}${p.required ? ", required" : ""}`), h("td", null, type(p.schema)), h("td", null, p.description ?? "")));
  const rows = [...params, ...fields(body)];
  return h("section.wide", null, h("h3", null, h("code", null, `${method.toUpperCase()} ${path}`)), h("p", null, op.description ?? op.summary ?? ""), rows.length && h("table", null, ...rows));
}

const order = ["read", "limits", "orders", "session", "service"];
const all = Object.entries(spec.paths).flatMap(([path, item]) => Object.entries(item).map(([method, op]) => ({ tag: op.tags?.[0] ?? "", el: route(path, method, op) })));
place.replaceChildren(
  h("p.wide", null, "Errors are problem documents (RFC 9457) with a code. Changes need a token from POST /api/v1/auth/token, sent as Authorization: Bearer."),
  ...order.flatMap((tag) => [h("h2.wide", null, tag), ...all.filter((r) => r.tag === tag).map((r) => r.el)]));
