// Sends a folder of weights in parts, straight to the store. What has arrived is not sent again.
"use strict";

const KINDS = [".safetensors", ".json", ".txt", ".model"];
const AT_ONCE = 3;
const TRIES = 5;

function chosen(form) {
  const files = [...form.querySelectorAll("input[type=file]")].flatMap((input) => [...input.files]);
  return files
    .map((file) => ({ file, path: file.webkitRelativePath.split("/").slice(1).join("/") || file.name }))
    .filter(({ path }) => KINDS.some((kind) => path.endsWith(kind)));
}

async function ask(url, token, body) {
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": token },
    body: JSON.stringify(body),
  });
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error);
  return data;
}

// What the store refuses is refused the next time too; a lost connection or a 5xx is tried again.
async function put(part, blob) {
  for (let attempt = 1; ; attempt += 1) {
    let said = "The store could not be reached.";
    const answer = await fetch(part.url, { method: "PUT", headers: part.headers, body: blob }).catch(() => null);
    if (answer?.ok) return;
    if (answer) said = `The store answered ${answer.status}.`;
    if ((answer && answer.status < 500) || attempt === TRIES) throw new Error(said);
    await new Promise((done) => setTimeout(done, 500 * 2 ** attempt));
  }
}

async function send(form) {
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  const files = chosen(form);
  const box = form.querySelector(".upload-progress");
  const [bar, line] = [box.querySelector("progress"), box.querySelector("p")];
  box.hidden = false;
  if (!files.length) { line.textContent = "Choose a folder or files first."; return; }
  line.textContent = "Asking what has arrived already…";
  const plan = await ask(form.dataset.upload, token, {
    lora: form.querySelector("[name=lora]").checked,
    files: files.map(({ file, path }) => ({ path, size: file.size })),
  });
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  let sent = 0;
  const waiting = [];
  for (const { path, parts } of plan.files) {
    const { file } = files.find((one) => one.path === path);
    let start = 0;
    for (const part of parts) {
      const from = start;
      start += part.size;
      if (part.have) sent += part.size;
      else waiting.push({ part, file, from });
    }
  }
  const show = () => {
    bar.value = sent / total;
    line.textContent = `${Math.floor((100 * sent) / total)} % of ${(total / 2 ** 20).toFixed(1)} MiB sent`;
  };
  show();
  const lane = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const { part, file, from } = next;
      await put(part, file.slice(from, from + part.size));
      sent += part.size;
      show();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  await ask(form.dataset.finish, token, {});
  window.location.reload();
}

// The form may be there from the beginning, or come when an upload has been checked.
function prepareUploads(root) {
  for (const folder of root.querySelectorAll("form[data-upload] [data-folder]")) folder.hidden = false;
}
prepareUploads(document);
document.addEventListener("htmx:load", () => prepareUploads(document));

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("form[data-upload]")) return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  send(form).catch((error) => {
    form.querySelector(".upload-progress p").textContent =
      `${error.message} Upload again: what has arrived is kept.`;
  }).finally(() => { button.disabled = false; });
});
