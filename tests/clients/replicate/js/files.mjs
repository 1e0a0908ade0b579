// Files: made, read, listed, deleted; and pictures put into an input by each way of the client.
import Replicate from "replicate";

const options = { auth: market.key, baseUrl: `${market.url}/replicate/v1` };
const replicate = new Replicate(options);
const made = await replicate.files.create(new File(["weights"], "a b.bin"), { of: "a test" });
const got = await replicate.files.get(made.id);
const listed = (await replicate.files.list()).results.map((file) => file.id);
const deleted = await replicate.files.delete(made.id);
const error = await caught(() => replicate.files.get(made.id));

// The strategy "data-uri" of 1.4.0 sends the client itself as the input; a string is taken.
const picture = new Blob([Buffer.from(given.picture, "base64")], { type: "image/png" });
const images = {
  upload: picture,
  default: picture,
  string: `data:image/png;base64,${given.picture}`,
};
const ways = {};
for (const [way, image] of Object.entries(images)) {
  const client = new Replicate(way === "string" ? options : { ...options, fileEncodingStrategy: way });
  const call = await client.predictions.create({ model: given.ref, input: { prompt: "x", image } });
  ways[way] = call.status;
}
tell({ made, got, listed, deleted, error, ways });
