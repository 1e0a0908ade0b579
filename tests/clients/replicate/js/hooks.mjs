// validateWebhook() of what the receiver got, and of the same with a byte more.
import Replicate, { validateWebhook } from "replicate";

const replicate = new Replicate({ auth: market.key, baseUrl: `${market.url}/replicate/v1` });
const { key } = await replicate.webhooks.default.secret.get();
const { headers, body } = given;
tell({
  right: await validateWebhook({ headers, body }, key),
  forged: await validateWebhook({ headers, body: body + " " }, key),
});
