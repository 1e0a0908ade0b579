// Everything that is read: predictions page by page, models, versions, search and the rest.
import Replicate from "replicate";

const replicate = new Replicate({ auth: market.key, baseUrl: `${market.url}/replicate/v1` });
const [owner, name] = market.ref.split("/");
const names = (page) => page.results.map((row) => row.slug ?? row.name ?? row.id);
const pages = [];
for await (const rows of replicate.paginate(replicate.predictions.list))
  pages.push(rows.map((row) => row.id));
const model = await replicate.models.get(owner, name);
const version = await replicate.models.versions.get(owner, name, model.latest_version.id);
tell({
  pages,
  model: { owner: model.owner, name: model.name, visibility: model.visibility },
  models: names(await replicate.models.list()),
  versions: names(await replicate.models.versions.list(owner, name)),
  required: version.openapi_schema.components.schemas.Input.required,
  search: names(await replicate.models.search(given.search)),
  collections: names(await replicate.collections.list()),
  collection: (await replicate.collections.get("text-to-image")).models.map((row) => row.name),
  hardware: await replicate.hardware.list(),
  account: await replicate.accounts.current(),
  deployments: names(await replicate.deployments.list()),
  secret: await replicate.webhooks.default.secret.get(),
});
