// Uploads: a blob by itself, one inside an input, and one that is sent in parts.
import { createFalClient } from "@fal-ai/client";

const fal = createFalClient({ credentials: market.key, ...given.config });
const picture = new Blob([Buffer.from(given.picture, "base64")], { type: "image/png" });
const url = await fal.storage.upload(new File([picture], "red.png", { type: "image/png" }), {
  lifecycle: { expiresIn: "1h" },
});
const inside = await fal.run(given.ref, { input: { prompt: "x", image: picture } });
const named = await fal.run(given.ref, { input: { prompt: "x", image: url } });
const large = new File([new Uint8Array(91 * 2 ** 20)], "large.bin");
const parts = await fal.storage.upload(large);
tell({ url, inside: inside.data.seed, named: named.data.seed, parts });
