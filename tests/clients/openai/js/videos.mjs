// videos: made with a picture, polled, fetched, listed, remixed, deleted.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ apiKey: market.key, baseURL: `${market.url}/openai/v1` });
const input_reference = await toFile(Buffer.from(given.image, "base64"), "a.png", { type: "image/png" });
const call = { model: given.ref, prompt: "a lighthouse", seconds: "4", size: "128x64" };
const first = await client.videos.create({ ...call, input_reference });
let made = first;
while (!["completed", "failed"].includes(made.status)) {
  await new Promise((go) => setTimeout(go, 100));
  made = await client.videos.retrieve(first.id);
}
const answer = await client.videos.downloadContent(made.id);
const content = new Uint8Array(await answer.arrayBuffer());
const remix = await client.videos.remix(made.id, { prompt: "at night" });
const listed = [];
for await (const each of client.videos.list({ limit: 1 })) listed.push(each.id);
const deleted = await client.videos.delete(made.id);
const gone = await caught(() => client.videos.retrieve(made.id));
tell({ first, made, content, remix, listed, deleted, gone });
