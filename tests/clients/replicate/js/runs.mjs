// run(): what comes back, its bytes, and what the callback is told meanwhile.
import Replicate from "replicate";

const replicate = new Replicate({ auth: market.key, baseUrl: `${market.url}/replicate/v1` });
const { ref = market.ref, ...options } = given;
const states = [];
const output = await replicate.run(ref, options, (made) => states.push(made.status));
const files = [];
for (const file of [output].flat().filter(Boolean))
  files.push({
    kind: file.constructor.name,
    url: file.url(),
    bytes: new Uint8Array(await (await file.blob()).arrayBuffer()),
  });
tell({ files, states });
