// models: listed, found, not deleted.
import OpenAI from "openai";

const client = new OpenAI({ apiKey: market.key, baseURL: `${market.url}/openai/v1` });
const listed = [];
for await (const each of client.models.list()) listed.push(each);
const found = await client.models.retrieve(market.ref);
const kept = await caught(() => client.models.delete(market.ref));
tell({ listed, found, kept });
