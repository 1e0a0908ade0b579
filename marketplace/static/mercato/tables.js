// A table that scrolls sideways must be reachable by the keyboard, though nothing in it is.
"use strict";

function reachTables() {
  for (const box of document.querySelectorAll("#content .module")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
}
reachTables();
addEventListener("resize", reachTables);
