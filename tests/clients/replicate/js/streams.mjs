// stream(): its events, and the error that ends them.
import Replicate from "replicate";

const replicate = new Replicate({ auth: market.key, baseUrl: `${market.url}/replicate/v1` });
const events = [];
const error = await caught(async () => {
  for await (const event of replicate.stream(market.ref, { input: given.input })) {
    events.push({ event: event.event, data: event.data, id: event.id, text: `${event}` });
    if (given.leave) break;
  }
});
tell({ events, error });
