// Draws the tables inside [data-day-chart] with uPlot, in place of the bars that the server drew.
"use strict";

const tokenOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function dayChartOptions(width, label) {
  const axis = { stroke: tokenOf("--muted"), grid: { stroke: tokenOf("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const dollars = (value) => (value == null ? "" : "$" + value.toLocaleString("en", { maximumFractionDigits: 6 }));
  return {
    width,
    height: 240,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
    cursor: { y: false },
    legend: { live: true },
    scales: { x: { time: true, range: (_, first, last) => [first - 43200, last + 43200] }, y: { range: (_, low, high) => [0, high || 1] }, calls: { range: (_, low, high) => [0, high || 1] } },
    axes: [
      { ...axis, space: 60, incrs: [1, 2, 7, 14, 31, 61].map((days) => days * 86400), values: (u, ticks) => ticks.map((s) => new Date(s * 1e3).toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" })) },
      { ...axis, size: 72, values: (u, ticks) => ticks.map(dollars) },
      { ...axis, side: 1, scale: "calls", size: 48, grid: { show: false }, values: (u, ticks) => ticks.map((v) => (Number.isInteger(v) ? v.toLocaleString("en") : "")) },
    ],
    series: [
      { label: "Day", value: (u, s) => (s == null ? "–" : new Date(s * 1e3).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" })) },
      { label: "Spent", fill: tokenOf("--accent"), stroke: tokenOf("--accent"), width: 0, paths: uPlot.paths.bars({ size: [0.7, 40] }), points: { show: false }, value: (u, v) => dollars(v) || "–" },
      { label: "Calls", scale: "calls", stroke: tokenOf("--tag"), width: 2, points: { show: false }, value: (u, v) => v ?? "–" },
    ],
  };
}

function drawDayChart(box) {
  const rows = [...box.querySelectorAll("tr[data-day]")];
  if (rows.length < 2 || typeof uPlot === "undefined") return;
  const data = [
    rows.map((row) => Date.parse(`${row.dataset.day}T00:00:00Z`) / 1e3),
    rows.map((row) => Number(row.dataset.nano) / 1e9),
    rows.map((row) => Number(row.dataset.calls)),
  ];
  const place = document.createElement("div");
  place.className = "day-plot";
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", `${box.dataset.dayChart}. The same numbers are in the table below.`);
  box.prepend(place);
  box.querySelector(".chart").hidden = true;
  let chart = new uPlot(dayChartOptions(place.clientWidth, box.dataset.dayChart), data, place);
  new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: 240 })).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    chart.destroy();
    chart = new uPlot(dayChartOptions(place.clientWidth, box.dataset.dayChart), data, place);
  });
}

document.querySelectorAll("[data-day-chart]").forEach(drawDayChart);
