// A web application that keeps the key: its pages' calls go through @fal-ai/server-proxy.
import { createFalClient } from "@fal-ai/client";
import { handleRequest } from "@fal-ai/server-proxy";

const behind = async (_url, { method, headers, body }) => {
  let answer;
  const sent = {};
  const respond = (status, data) =>
    new Response(typeof data === "string" ? data : JSON.stringify(data), { status });
  await handleRequest(
    {
      id: "test",
      method,
      getHeaders: () => headers,
      getHeader: (name) => headers[name] ?? headers[name.toLowerCase()],
      sendHeader: (name, value) => (sent[name] = value),
      getRequestBody: async () => body,
      respondWith: (status, data) => (answer = respond(status, data)),
      sendResponse: async (upstream) => {
        answer = new Response(await upstream.text(), { status: upstream.status, headers: sent });
      },
    },
    {
      allowedUrlPatterns: ["fal.run/**", "queue.fal.run/**"],
      allowedEndpoints: ["atelier/**"],
      isAuthenticated: async () => true,
      resolveFalAuth: async () => `Key ${market.key}`,
    },
  );
  return answer;
};
const fal = createFalClient({
  credentials: "", fetch: behind, proxyUrl: { url: "https://app.example/proxy", when: "always" },
});
const ran = await fal.run(market.ref, { input: given.input });
const followed = await fal.subscribe(market.ref, { input: given.input, pollInterval: 50 });
tell({ ran, followed });
