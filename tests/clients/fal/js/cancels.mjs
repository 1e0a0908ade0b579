// Cancel by hand, and by a time that is up.
import { createFalClient } from "@fal-ai/client";

const fal = createFalClient({ credentials: market.key, ...given.config });
const { request_id: requestId } = await fal.queue.submit(market.ref, given);
await fal.queue.cancel(market.ref, { requestId });
const status = await fal.queue.status(market.ref, { requestId });
await fal.queue.cancel(market.ref, { requestId });
const error = await caught(() => fal.queue.result(market.ref, { requestId }));
const late = await caught(() => fal.subscribe(market.ref, { ...given, timeout: 700 }));
await new Promise((resolve) => setTimeout(resolve, 500));
tell({ status, error, late });
