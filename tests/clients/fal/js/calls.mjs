// run, the queue step by step, subscribe by polling and by streaming, stream; and what they tell.
import { createFalClient } from "@fal-ai/client";

const fal = createFalClient({ credentials: market.key, ...given.config });
const { input } = given;
const bytes = async (image) => new Uint8Array(await (await fetch(image.url)).arrayBuffer());
const ran = await fal.run(market.ref, { input });
const asked = await fal.run(market.ref, { method: "get", input: { prompt: "x", num_images: 2 } });
const queued = await fal.queue.submit(market.ref, { input, priority: "low", startTimeout: 30 });
const requestId = queued.request_id;
let status;
do status = await fal.queue.status(market.ref, { requestId, logs: true });
while (status.status !== "COMPLETED");
const result = await fal.queue.result(market.ref, { requestId });
const polled = [];
const subscribed = await fal.subscribe(`${market.ref}/v1`, {
  input, logs: true, pollInterval: 50, onQueueUpdate: (each) => polled.push(each.status),
});
const told = [];
const followed = await fal.subscribe(market.ref, {
  input, logs: true, mode: "streaming", onQueueUpdate: (each) => told.push({ ...each }),
});
const stream = await fal.stream(market.ref, { input });
const events = [];
for await (const event of stream) events.push(event);
const done = await stream.done();
tell({
  ran, bytes: await bytes(ran.data.images[0]), asked: asked.data.images.length, queued, status,
  result, polled, subscribed, told, followed, events, done,
});
