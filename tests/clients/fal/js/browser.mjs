// What a browser does: a token in the address instead of a key in a header; realtime.
import { createFalClient } from "@fal-ai/client";

const fal = createFalClient({ credentials: market.key });
const stream = await fal.stream(market.ref, {
  input: given.input,
  connectionMode: "client",
  tokenProvider: async (app) => {
    const answer = await fetch("https://rest.fal.ai/tokens/", {
      method: "POST",
      headers: { Authorization: `Key ${market.key}`, "Content-Type": "application/json" },
      body: JSON.stringify({ allowed_apps: [app.split("/").slice(0, 2).join("/")] }),
    });
    return answer.json();
  },
});
const streamed = await stream.done();

const say = (message, ref = market.ref) =>
  new Promise((resolve) => {
    const connection = fal.realtime.connect(ref, {
      throttleInterval: 0,
      onResult: (result) => { connection.close(); resolve({ result }); },
      onError: (error) => { connection.close(); resolve({ error: `${error.name}: ${error.message}` }); },
    });
    connection.send(message);
  });
const made = await say(given.input);
const wrong = await say({ ...given.input, num_images: 99 });
const gone = await say(given.input, "atelier/nothing");
tell({ streamed, made, wrong, gone });
process.exit(0); // sockets that the client keeps
