// Pictures for the playground: chosen, dropped or pasted, checked, and sent with their progress.
"use strict";

const KINDS = ["image/png", "image/jpeg", "image/webp"];
const playgroundForm = () => document.getElementById("playground-form");

// Announce a file, then send it where the market says. Returns its id; throws what to tell.
async function sendFile(file, kind, progress) {
  const announce = new FormData();
  announce.set("csrfmiddlewaretoken", playgroundForm().querySelector("[name=csrfmiddlewaretoken]").value);
  announce.set("name", file.name || "picture");
  announce.set("content_type", kind);
  announce.set("size", String(file.size));
  const answer = await fetch(playgroundForm().dataset.uploads, { method: "POST", body: announce });
  const place = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(place.error || "The file was not taken.");
  await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", place.url);
    for (const [name, value] of Object.entries(place.headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress.value = (100 * event.loaded) / event.total;
    });
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve();
      else reject(new Error("The file could not be stored. Try again."));
    });
    request.addEventListener("error", () => reject(new Error("The file could not be sent. Try again.")));
    progress.value = 0;
    progress.hidden = false;
    request.send(file);
  }).finally(() => { progress.hidden = true; });
  return place.id;
}

function readable(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error("The file cannot be read.")));
    reader.readAsDataURL(file);
  });
}

// Why a file is no use, or nothing.
function wrongWith(file, box) {
  const kinds = box.dataset.file === "file" ? [...KINDS, "video/mp4"] : KINDS;
  if (!kinds.includes(file.type)) return "It must be a PNG, JPEG or WebP picture.";
  if (!file.size) return "The file is empty.";
  if (file.size > Number(box.dataset.max)) return `It has ${Math.ceil(file.size / 2 ** 20)} MB, which is too much.`;
  return "";
}

async function take(box, file) {
  const problem = box.querySelector(".pg-file-problem");
  const fail = (text) => { problem.textContent = text; problem.hidden = !text; };
  const wrong = wrongWith(file, box);
  fail(wrong);
  if (wrong) return;
  try {
    const [id, source] = await Promise.all([sendFile(file, file.type, box.querySelector(".pg-sent")), readable(file)]);
    show(box, id, source, file.name);
  } catch (error) {
    fail(error.message);
  }
}

function show(box, id, source, name) {
  const field = box.querySelector("input[type=hidden]");
  const shown = box.querySelector(".pg-shown");
  field.value = id;
  shown.querySelector("img").src = source;
  shown.querySelector("img").alt = name || "Your picture";
  shown.hidden = box.dataset.painted === "1";
  shown.querySelector("[data-remove]").hidden = false;
  field.dispatchEvent(new Event("change", { bubbles: true }));
  box.dispatchEvent(new CustomEvent("playground:picture", { bubbles: true, detail: { field: field.id, source } }));
}

function empty(box) {
  const field = box.querySelector("input[type=hidden]");
  field.value = "";
  box.querySelector("input[type=file]").value = "";
  box.querySelector(".pg-shown").hidden = true;
  box.querySelector(".pg-shown img").removeAttribute("src");
  field.dispatchEvent(new Event("change", { bubbles: true }));
  box.dispatchEvent(new CustomEvent("playground:picture", { bubbles: true, detail: { field: field.id, source: "" } }));
}

function prepareDrops(root) {
  for (const box of root.querySelectorAll(".pg-drop:not([data-ready])")) {
    box.dataset.ready = "1";
    const chooser = box.querySelector("input[type=file]");
    // What is chosen is sent at once: the form sends its id alone.
    chooser.removeAttribute("name");
    box.querySelector(".pg-drop-hint").hidden = false;
    box.querySelector("[data-remove]").hidden = !box.querySelector("input[type=hidden]").value;
    chooser.addEventListener("change", (event) => {
      event.stopPropagation();
      if (chooser.files[0]) take(box, chooser.files[0]);
    });
    box.querySelector("[data-remove]").addEventListener("click", () => empty(box));
    box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
    box.addEventListener("dragleave", () => box.classList.remove("over"));
    box.addEventListener("drop", (event) => {
      event.preventDefault();
      box.classList.remove("over");
      if (event.dataTransfer.files[0]) take(box, event.dataTransfer.files[0]);
    });
  }
  for (const box of root.querySelectorAll(".pg-lora-file[hidden]")) {
    box.hidden = false;
    box.querySelector("[data-own-lora]").addEventListener("change", (event) => {
      event.stopPropagation();
      if (event.target.files[0]) takeLora(box, event.target.files[0]);
    });
  }
}

// A LoRA of one's own goes into the first row that is free.
async function takeLora(box, file) {
  const rows = [...box.closest("[data-loras]").querySelectorAll("select")];
  const row = rows.find((one) => !one.value) ?? rows[rows.length - 1];
  const problem = box.querySelector(".pg-file-problem");
  try {
    const id = await sendFile(file, box.closest("[data-loras]").dataset.type, box.querySelector(".pg-sent"));
    for (const one of rows) one.append(new Option(file.name, id));
    row.value = id;
    problem.hidden = true;
    row.dispatchEvent(new Event("change", { bubbles: true }));
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  }
}

// A pasted picture goes where the focus is, or into the first place for one.
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => KINDS.includes(one.type));
  if (!file || !playgroundForm()) return;
  const boxes = [...playgroundForm().querySelectorAll(".pg-drop")];
  const box = document.activeElement?.closest(".pg-drop") ?? boxes.find((one) => !one.querySelector("input[type=hidden]").value) ?? boxes[0];
  if (box) { event.preventDefault(); take(box, file); }
});

prepareDrops(document);
document.addEventListener("htmx:load", (event) => prepareDrops(event.target));
