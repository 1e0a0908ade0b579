// A method that fails: the error, and how many requests were sent.
import OpenAI from "openai";

const sent = [];
const client = new OpenAI({
  apiKey: market.key,
  baseURL: `${market.url}/openai/v1`,
  ...given.options,
  fetch: (url, init) => {
    sent.push(`${init.method} ${new URL(url).pathname}`);
    return fetch(url, init);
  },
});
const [group, method] = given.method.split(".");
const error = await caught(() => client[group][method](given.call));
tell({ error, sent });
