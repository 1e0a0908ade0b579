// What the pages do beyond HTML and htmx. Every page reads and works without this file.
"use strict";

// Copy buttons: data-copy names the element whose text is copied.
function prepareCopying(root) {
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    if (button.dataset.ready) continue;
    button.dataset.ready = "1";
    button.addEventListener("click", async () => {
      const target = document.getElementById(button.dataset.copy);
      await navigator.clipboard.writeText(target.value ?? target.textContent.trim());
      const label = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }
}

// Tabs: [data-tabs] holds sections with headings; without scripts all of them show.
function prepareTabs(root) {
  for (const box of root.querySelectorAll("[data-tabs]:not([data-ready])")) {
    box.dataset.ready = "1";
    const panels = [...box.querySelectorAll(":scope > section")];
    const list = document.createElement("div");
    list.className = "tabs";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", box.dataset.tabs);
    const tabs = panels.map((panel) => {
      const heading = panel.querySelector("h3");
      const tab = document.createElement("button");
      tab.type = "button";
      tab.id = `${panel.id}-tab`;
      tab.textContent = heading.textContent;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      heading.hidden = true;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      list.append(tab);
      return tab;
    });
    const choose = (index, focus) => {
      tabs.forEach((tab, i) => {
        tab.setAttribute("aria-selected", String(i === index));
        tab.tabIndex = i === index ? 0 : -1;
        panels[i].hidden = i !== index;
      });
      if (focus) tabs[index].focus();
    };
    tabs.forEach((tab, i) => {
      tab.addEventListener("click", () => choose(i, false));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) choose((i + step + tabs.length) % tabs.length, true);
      });
    });
    box.prepend(list);
    choose(0, false);
  }
}

// Menus made of <details> close on Escape and on a click elsewhere.
function closeMenus(except) {
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (menu !== except) menu.open = false;
  }
}
document.addEventListener("click", (event) => closeMenus(event.target.closest("details[data-menu]")));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details[data-menu][open]");
  if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
});

// Forms marked data-confirm ask first.
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

// A passing message at the corner; read out at once. What it says must not be the only trace.
function toast(text, tone) {
  let box = document.querySelector(".toasts");
  if (!box) {
    box = document.createElement("div");
    box.className = "toasts";
    box.setAttribute("role", "alert");
    document.body.append(box);
  }
  const note = document.createElement("p");
  note.className = `notice toast ${tone}`;
  note.textContent = text;
  box.replaceChildren(note);
  setTimeout(() => note.remove(), 8000);
}

// A part of the page that could not be fetched: what was there stays, and this says so.
document.addEventListener("htmx:sendError", () => toast("The server cannot be reached. Try again in a moment.", "error"));
document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  toast(status === 429 ? "Too many requests. Try again in a moment." : "That did not work. Reload the page and try again.", "error");
});

// What is replaced at each poll has data-say, the id of a live region that stays, and what it is to
// say has data-said: a region that is replaced with its words is not read out.
function say(root) {
  const part = root.closest?.("[data-say]");
  const box = part && document.getElementById(part.dataset.say);
  if (!box) return;
  const words = [...part.querySelectorAll("[data-said]")].map((said) => said.textContent.trim()).join(". ");
  if (box.dataset.said !== undefined && box.dataset.said !== words) box.textContent = words;
  box.dataset.said = words;
}
document.addEventListener("htmx:load", (event) => say(event.target));

// On a small screen the sections of a page are one row that scrolls: it begins at the current one.
for (const link of document.querySelectorAll("nav [aria-current]")) {
  const row = link.closest(".rail-links, .wizard-steps ol");
  if (!row || row.scrollWidth <= row.clientWidth) continue;
  const [outer, inner] = [row.getBoundingClientRect(), link.getBoundingClientRect()];
  row.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
}

function prepare(root) { prepareCopying(root); prepareTabs(root); }
prepare(document);
for (const part of document.querySelectorAll("[data-say]")) say(part);
document.documentElement.classList.add("scripted");
document.addEventListener("htmx:load", (event) => prepare(event.target));
