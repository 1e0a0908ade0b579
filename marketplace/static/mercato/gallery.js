// Clips on cards play while they are pointed at or focused, unless motion is not wanted.
"use strict";

const still = window.matchMedia("(prefers-reduced-motion: reduce)");

function clipsOf(target) {
  const card = target.closest?.(".card, .stall-goods li");
  return card ? [...card.querySelectorAll("video[data-play]")] : [];
}

for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    if (still.matches) return;
    for (const clip of clipsOf(event.target)) clip.play().catch(() => {});
  });
}
for (const kind of ["pointerout", "focusout"]) {
  document.addEventListener(kind, (event) => {
    const kept = event.relatedTarget ? clipsOf(event.relatedTarget) : [];
    for (const clip of clipsOf(event.target)) if (!kept.includes(clip)) clip.pause();
  });
}
