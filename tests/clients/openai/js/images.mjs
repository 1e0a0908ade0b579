// images.generate: base64, addresses, extra fields, and a stream with partial pictures.
import OpenAI from "openai";

const client = new OpenAI({ apiKey: market.key, baseURL: `${market.url}/openai/v1` });
const call = { model: market.ref, prompt: "a red circle" };
const { data: made, response } = await client.images.generate({ ...call, seed: 5 }).withResponse();
const several = await client.images.generate({ ...call, n: 2, response_format: "url" });
const fetched = [];
for (const image of several.data)
  fetched.push(new Uint8Array(await (await fetch(image.url)).arrayBuffer()));
const events = [];
for await (const event of await client.images.generate({ ...call, stream: true, partial_images: 1 }))
  events.push(event);
tell({ made, cost: response.headers.get("x-mercato-charge-nano-usd"), fetched, events });
