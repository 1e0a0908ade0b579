// What a call throws, by the way that is given; and how often a POST was sent.
import { createFalClient } from "@fal-ai/client";

let posts = 0;
const fal = createFalClient({
  credentials: given.key ?? market.key,
  fetch: (url, options) => {
    posts += options.method === "POST";
    return fetch(url, options);
  },
  ...given.config,
});
const { way, ref = market.ref, ...options } = given.call;
let fields = null;
const error = await caught(async () => {
  try {
    if (way === "stream") await (await fal.stream(ref, options)).done();
    else if (way === "submit") await fal.queue.submit(ref, options);
    else await fal[way](ref, options);
  } catch (thrown) {
    fields = thrown.fieldErrors ?? null;
    throw thrown;
  }
});
tell({ error, fields, posts, user: error?.status === 504 ? error.timeoutType : null });
