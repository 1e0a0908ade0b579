// images.edit: a picture with its mask and an extra list, then what several pictures get.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ apiKey: market.key, baseURL: `${market.url}/openai/v1` });
const file = (bytes, name) => toFile(Buffer.from(bytes, "base64"), name, { type: "image/png" });
const image = await file(given.image, "a.png");
const mask = await file(given.mask, "b.png");
const call = { model: given.ref, prompt: "a red circle" };
const made = await client.images.edit({ ...call, image, mask, n: 1, seed: 7 });
const loras = [{ uri: "atelier/ink:1", scale: 0.5 }];
const nested = await caught(() => client.images.edit({ ...call, image, loras }));
const several = await caught(() => client.images.edit({ ...call, image: [image, image] }));
tell({ made, nested, several });
