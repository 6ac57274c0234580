"use strict";
// The charts of two experiments beside each other.
const Comparison = (() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const base = { style: { background: "transparent", fontSize: "12px", maxWidth: "100%" } };
  const width = (element) => Math.max(280, Math.min(760, element.clientWidth || 560));

  function points(id, key, domain, label) {
    const element = at(id), rows = Values.points.filter((row) => row[key].some((value) => value !== null));
    if (!rows.length) { element.replaceChildren(make("p", { class: "none" }, "not computed")); return; }
    const y = (row) => row.title, shown = (row) => `${row.title}\n${Values.names.map((name, place) => `${name}: ${Format.number(row[key][place])}`).join("\n")}`;
    const known = (place) => rows.filter((row) => row[key][place] !== null);
    element.replaceChildren(Plot.plot({
      ...base, width: width(element), height: 26 * rows.length + 60, marginLeft: 110, x: { domain, label, grid: true }, y: { domain: rows.map(y), label: null },
      marks: [
        Plot.ruleY(rows.filter((row) => row[key].every((value) => value !== null)), { y, x1: (row) => row[key][0], x2: (row) => row[key][1], stroke: colour("soft") }),
        Plot.dot(known(0), { y, x: (row) => row[key][0], fill: colour("helpful"), r: 5, tip: true, title: shown }),
        Plot.dot(known(1), { y, x: (row) => row[key][1], stroke: colour("harmful"), strokeWidth: 2, r: 5 }),
      ],
    }));
  }

  function matrix(place) {
    const element = at(`correlations-${place}`), found = Values.charts[place].correlations.mean?.spearman;
    if (!found) { element.replaceChildren(make("p", { class: "none" }, "not computed")); return; }
    const title = (name) => Values.titles[name] ?? name, names = found.methods.map(title), size = width(element);
    const cells = found.methods.flatMap((row, i) => found.methods.map((column, j) => ({ row: title(row), column: title(column), value: found.values[i][j] })));
    element.replaceChildren(Plot.plot({
      ...base, width: size, height: size * 0.86, marginLeft: 104, marginBottom: 104,
      x: { domain: names, label: null, tickRotate: -45 }, y: { domain: names, label: null },
      color: { type: "linear", domain: [-1, 0, 1], range: ["#d55e00", colour("neutral"), "#0072b2"], unknown: colour("line") },
      marks: [Plot.cell(cells, { x: "column", y: "row", fill: "value", inset: 0.5, tip: true, title: (cell) => `${cell.row} with ${cell.column}: ${Format.number(cell.value)}` })],
    }));
  }

  function draw() {
    points("reliable", "share_reliable", [0, 1], "share of pairs");
    points("agreement", "with_loo", [Math.min(-0.25, ...Values.points.flatMap((row) => row.with_loo)), 1], "rank correlation");
    [0, 1].forEach(matrix);
  }

  Tables.sortable(at("methods"));
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  return { draw };
})();
