// Paints a mask over the picture that it belongs to: white is drawn anew.
"use strict";

const SEND_AFTER_MS = 900;

class Painter {
  constructor(box) {
    this.box = box;
    this.drop = box.closest(".pg-drop");
    this.picture = box.querySelector("img");
    this.canvas = box.querySelector("canvas");
    this.brush = box.querySelector("[data-brush]");
    this.strokes = [];
    this.picture.addEventListener("load", () => this.fit());
    this.canvas.addEventListener("pointerdown", (event) => this.begin(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => this.end());
    box.querySelector("[data-undo]").addEventListener("click", () => { this.strokes.pop(); this.changed(); });
    box.querySelector("[data-clear]").addEventListener("click", () => { this.strokes = []; this.changed(); });
  }

  open(source) {
    this.box.hidden = !source;
    this.strokes = [];
    if (source) this.picture.src = source;
  }

  fit() {
    this.canvas.width = this.picture.naturalWidth;
    this.canvas.height = this.picture.naturalHeight;
    this.draw();
  }

  at(event) {
    const frame = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / frame.width;
    return [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
  }

  begin(event) {
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    const scale = this.canvas.width / this.canvas.getBoundingClientRect().width;
    this.stroke = { width: Number(this.brush.value) * scale, points: [this.at(event)] };
    this.strokes.push(this.stroke);
    this.draw();
  }

  move(event) {
    if (!this.stroke) return;
    this.stroke.points.push(this.at(event));
    this.draw();
  }

  end() {
    if (!this.stroke) return;
    this.stroke = null;
    this.changed();
  }

  paint(context, colour) {
    context.strokeStyle = colour;
    context.lineCap = context.lineJoin = "round";
    for (const { width, points } of this.strokes) {
      context.lineWidth = width;
      context.beginPath();
      points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
      // A point alone is a dot.
      if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
      context.stroke();
    }
  }

  draw() {
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.paint(context, "#ffffff");
  }

  changed() {
    this.draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), SEND_AFTER_MS);
  }

  async send() {
    const field = document.getElementById(this.box.dataset.mask);
    if (!this.strokes.length) {
      field.value = "";
      field.dispatchEvent(new Event("change", { bubbles: true }));
      return;
    }
    const sheet = document.createElement("canvas");
    sheet.width = this.canvas.width;
    sheet.height = this.canvas.height;
    const context = sheet.getContext("2d");
    context.fillStyle = "#000000";
    context.fillRect(0, 0, sheet.width, sheet.height);
    this.paint(context, "#ffffff");
    const file = await new Promise((resolve) => { sheet.toBlob(resolve, "image/png"); });
    this.drop.dataset.painted = "1";
    await take(this.drop, new File([file], "mask.png", { type: "image/png" }));
    delete this.drop.dataset.painted;
  }
}

const painters = new Map();
function preparePainters(root) {
  for (const box of root.querySelectorAll(".pg-mask:not([data-ready])")) {
    box.dataset.ready = "1";
    const painter = new Painter(box);
    painters.set(box.dataset.over, painter);
    const shown = document.getElementById(box.dataset.over)?.closest(".pg-drop")?.querySelector(".pg-shown img");
    if (shown?.getAttribute("src")) painter.open(shown.src);
  }
}
document.addEventListener("playground:picture", (event) => painters.get(event.detail.field)?.open(event.detail.source));
preparePainters(document);
document.addEventListener("htmx:load", (event) => preparePainters(event.target));
