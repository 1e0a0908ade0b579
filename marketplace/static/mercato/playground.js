// The playground's form: sliders, sizes, dice, keys, and what is said aloud. All works without it.
"use strict";

const fired = (element, kind) => element.dispatchEvent(new Event(kind, { bubbles: true }));

// A slider and its number say the same; the number is what is sent.
function prepareSliders(root) {
  for (const slider of root.querySelectorAll("[data-slides][hidden]")) {
    const number = document.getElementById(slider.dataset.slides);
    slider.hidden = false;
    slider.addEventListener("input", () => { number.value = slider.value; fired(number, "input"); });
    number.addEventListener("input", () => { if (number.value !== "") slider.value = number.value; });
  }
}

// Sizes by the name of their aspect set width and height.
function preparePresets(root) {
  for (const box of root.querySelectorAll(".pg-presets[hidden]")) {
    const sides = [box.dataset.width, box.dataset.height].map((id) => document.getElementById(id));
    if (sides.includes(null)) continue;
    box.hidden = false;
    const buttons = [...box.querySelectorAll("[data-size]")];
    const mark = () => {
      const now = sides.map((side) => side.value).join("x");
      for (const one of buttons) one.setAttribute("aria-pressed", String(one.dataset.size === now));
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        button.dataset.size.split("x").forEach((value, i) => {
          sides[i].value = value;
          fired(sides[i], "input");
        });
        fired(sides[1], "change");
      });
    }
    sides.forEach((side) => side.addEventListener("input", mark));
    mark();
  }
}

// Dice for the seed.
function prepareDice(root) {
  for (const button of root.querySelectorAll("[data-dice][hidden]")) {
    const field = document.getElementById(button.dataset.dice);
    button.hidden = false;
    button.addEventListener("click", () => {
      const low = Number(button.dataset.low);
      const span = Number(button.dataset.high) - low + 1;
      const [drawn] = crypto.getRandomValues(new Uint32Array(1));
      field.value = String(low + Math.floor((drawn / 2 ** 32) * span));
      fired(field, "change");
    });
  }
}

// What is said aloud: the phase, and every quarter of the steps.
let said = "";
function say(live) {
  const box = document.getElementById("playground-say");
  const pill = live && live.querySelector(".pill");
  if (!box || !pill) return;
  const label = live.querySelector(".pg-phase label");
  const bar = live.querySelector("progress[max]");
  let text = label ? label.textContent.trim() : pill.textContent.trim();
  if (bar && label) text = `${Math.floor((4 * bar.value) / bar.max) * 25}% done`;
  const cost = live.querySelector(".pg-cost");
  if (!label && cost) text = `${text}. ${cost.textContent.trim()}`;
  if (text !== said) { said = text; box.textContent = text; }
}

function form() { return document.getElementById("playground-form"); }

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  const run = document.getElementById("playground-run");
  if (!run || run.disabled || !event.target.closest("#playground")) return;
  event.preventDefault();
  form().requestSubmit(run);
});

// Earlier runs fill the form in place; without scripts their links open the page so.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-fill]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  await htmx.ajax("GET", link.href, { target: "#playground", select: "#playground", swap: "outerHTML" });
  history.replaceState(null, "", link.href);
  document.getElementById("playground").scrollIntoView({ block: "start" });
  form()?.querySelector("input:not([type=hidden]), textarea, select")?.focus({ preventScroll: true });
});

// A new run forgets what was wrong with the last one.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target !== form() || event.detail.requestConfig.elt !== form()) return;
  for (const field of form().querySelectorAll(".field.wrong")) field.classList.remove("wrong");
  for (const problem of form().querySelectorAll(".problem[id], .notice.error")) problem.remove();
});
document.addEventListener("htmx:sendError", (event) => {
  if (event.target === form()) tellFailure("The market could not be reached. Nothing was started; try again.");
});
document.addEventListener("htmx:responseError", (event) => {
  if (event.target !== form()) return;
  tellFailure("The market could not take this run. Load the page again and try once more.");
});
function tellFailure(text) {
  const notice = document.createElement("div");
  notice.className = "notice error";
  notice.setAttribute("role", "alert");
  notice.textContent = text;
  document.getElementById("playground-stage").replaceChildren(notice);
}

function preparePlayground(root) {
  prepareSliders(root);
  preparePresets(root);
  prepareDice(root);
}
preparePlayground(document);
// On a small screen the result is below the form: show it once it begins.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.target.id !== "playground-stage") return;
  const place = event.target.getBoundingClientRect();
  if (place.top < 0 || place.top > innerHeight / 2) event.target.scrollIntoView({ block: "start" });
});
document.addEventListener("htmx:load", (event) => {
  preparePlayground(event.target);
  const live = event.target.closest?.("#playground-live") ?? event.target.querySelector?.("#playground-live");
  if (live) say(live);
  // What was run has changed the balance.
  if (event.target.querySelector?.("[data-ended]")) fired(document.getElementById("playground-fields"), "requote");
});
