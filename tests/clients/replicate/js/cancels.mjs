// A call is cancelled: by its id, and by an AbortSignal while run() polls.
import Replicate from "replicate";

const replicate = new Replicate({ auth: market.key, baseUrl: `${market.url}/replicate/v1` });
const made = await replicate.predictions.create({ model: market.ref, input: given.input });
const cancelled = await replicate.predictions.cancel(made.id);
const again = await replicate.predictions.cancel(made.id);

const leave = new AbortController();
const wait = { mode: "poll", interval: 50 };
const states = [];
const output = await replicate.run(
  market.ref,
  { input: given.input, wait, signal: leave.signal },
  (seen) => {
    states.push(seen.status);
    leave.abort();
  },
);
tell({ first: made.status, cancelled: cancelled.status, again: again.status, states, output });
