// run() that fails: the error, and how many requests were sent.
import Replicate from "replicate";

const sent = [];
const replicate = new Replicate({
  auth: market.key,
  baseUrl: `${market.url}/replicate/v1`,
  fetch: (url, init) => {
    sent.push(`${init.method} ${new URL(url).pathname}`);
    return fetch(url, init);
  },
});
const { ref = market.ref, ...options } = given;
const error = await caught(() => replicate.run(ref, options));
tell({ error, sent });
