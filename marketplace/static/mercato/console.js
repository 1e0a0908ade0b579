// The fleet refreshes itself, but not while somebody reads details or is about to press a button.
"use strict";

const fleet = document.getElementById("fleet");
const pause = document.getElementById("fleet-pause");
if (pause) pause.closest("[hidden]").hidden = false;
document.addEventListener("htmx:beforeRequest", (event) => {
  if (!fleet || event.target !== fleet) return;
  const reading = fleet.querySelector("details[open]") || fleet.contains(document.activeElement);
  if (reading || (pause && pause.checked)) event.preventDefault();
});
