// Runs before every script (`--import`): what the script says comes back to the test as JSON.
//
// tell(value)        prints what the test gets; undefined becomes null, bytes become base64.
// await caught(fn)   awaits fn() and returns its exception as plain data: {name, message, …own
//                    fields}; `null` if nothing was thrown.
// given              what the test passed as `given=`.
// market             {url, key, ref} and what else the test named.
//
// Behind HTTPS_PROXY global fetch and WebSocket go through it, as they do in newer Nodes by
// themselves. Node 18 and 20 lack some globals that browsers and newer Nodes have.
import { createRequire } from "node:module";
import { webcrypto } from "node:crypto";
import * as buffer from "node:buffer";

const undici = createRequire(process.cwd() + "/package.json")("undici");

globalThis.crypto ??= webcrypto;
globalThis.File ??= buffer.File;
globalThis.WebSocket ??= undici.WebSocket;
if (process.env.HTTPS_PROXY) {
  undici.setGlobalDispatcher(new undici.EnvHttpProxyAgent());
  // Node's own fetch is another build of the same library: take one build for all of it.
  for (const name of ["fetch", "Headers", "Request", "Response", "FormData", "WebSocket"])
    globalThis[name] = undici[name];
}

const plain = (value) => {
  if (value === undefined) return null;
  if (value instanceof Error) return told(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (value instanceof Headers) return Object.fromEntries(value);
  if (value instanceof Response)
    return { status: value.status, headers: Object.fromEntries(value.headers) };
  if (value instanceof URL) return value.href;
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype)
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
  if (value && typeof value === "object") return JSON.parse(JSON.stringify(value) ?? "null");
  return typeof value === "bigint" || typeof value === "function" ? String(value) : value;
};

const told = (error) => {
  const own = Object.fromEntries(
    Object.getOwnPropertyNames(error)
      .filter((name) => !["stack", "request", "cause"].includes(name))
      .map((name) => [name, plain(error[name])]),
  );
  return { ...own, name: error.name, type: error.constructor.name, message: error.message };
};

globalThis.given = JSON.parse(process.env.GIVEN ?? "null");
globalThis.market = JSON.parse(process.env.MARKET ?? "null");
globalThis.tell = (value) => process.stdout.write(JSON.stringify(plain(value)) + "\n");
globalThis.caught = async (act) => {
  try {
    await act();
    return null;
  } catch (error) {
    if (!(error instanceof Error)) throw new Error(`not an Error was thrown: ${error}`);
    return told(error);
  }
};
