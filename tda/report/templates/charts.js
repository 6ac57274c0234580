"use strict";
// The charts of the overview, by Observable Plot: vector drawings in the page's own colours.
const Charts = (() => {
  const charts = Values.charts;
  const titles = Object.fromEntries(Values.methods.map((method) => [method.name, method.title]));
  const title = (name) => titles[name] ?? name;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const base = { style: { background: "transparent", fontSize: "12px", maxWidth: "100%", height: "auto", overflow: "visible" } };

  function width(element) {
    return Math.max(280, Math.min(760, element.clientWidth || 560));
  }

  function draw() {
    histograms();
    if (at("correlations")) correlations();
    if (at("agreement")) agreement();
    if (at("lds")) retraining();
  }

  function histograms() {
    const largest = Math.max(...Object.values(charts.histograms).flat());
    const figures = Values.methods.filter((method) => method.varies).map(({ name }) => {
      const shares = charts.histograms[name];
      const bars = shares.map((share, bin) => ({ low: bin / shares.length, high: (bin + 1) / shares.length, share }));
      const label = (bar) => `${title(name)}\np from ${bar.low.toFixed(2)} to ${bar.high.toFixed(2)}: ${Format.percent(bar.share)} of pairs`;
      const plot = Plot.plot({
        ...base, width: 216, height: 118, marginLeft: 38, marginRight: 6, marginTop: 6, marginBottom: 24,
        x: { label: null, ticks: [0, 0.5, 1], domain: [0, 1] },
        y: { label: null, ticks: 3, tickFormat: "%", domain: [0, largest] },
        marks: [
          Plot.rectY(bars, { x1: "low", x2: "high", y: "share", insetRight: 1, fill: (bar) => (bar.low < Values.level - 1e-9 ? colour("helpful") : colour("soft")), title: label, tip: true }),
          Plot.ruleY([1 / shares.length], { strokeDasharray: "4 3" }), Plot.ruleY([0]),
        ],
      });
      const caption = `${title(name)}: ${Format.percent(Values.rows[name]?.share_reliable)} with q < ${Values.level}`;
      plot.setAttribute("role", "img");
      plot.setAttribute("aria-label", `Histogram of p-values. ${caption}`);
      return make("figure", {}, plot, make("figcaption", {}, caption));
    });
    at("histograms").replaceChildren(...figures);
  }

  function correlations() {
    const statistic = at("correlation-statistic").value, kind = at("correlation-kind").value, element = at("correlations");
    const matrix = charts.correlations[statistic]?.[kind];
    if (!matrix) { element.replaceChildren(make("p", { class: "none" }, "not computed")); return; }
    const cells = matrix.methods.flatMap((row, i) => matrix.methods.map((column, j) => ({ row: title(row), column: title(column), value: matrix.values[i][j] })));
    const names = matrix.methods.map(title), size = width(element), small = size / names.length < 44;
    const plot = Plot.plot({
      ...base, width: size, height: size * 0.86, marginLeft: 104, marginBottom: 104, marginTop: 4,
      x: { domain: names, label: null, tickRotate: -45 }, y: { domain: names, label: null },
      color: { type: "linear", domain: [-1, 0, 1], range: ["#d55e00", colour("neutral"), "#0072b2"], label: "correlation", unknown: colour("line") },
      marks: [
        Plot.cell(cells, { x: "column", y: "row", fill: "value", inset: 0.5, tip: true, title: (cell) => `${cell.row} with ${cell.column}: ${Format.number(cell.value)}` }),
        Plot.text(cells, { x: "column", y: "row", text: (cell) => Format.correlation(cell.value).replace("0.", "."), fontSize: small ? 8.5 : 11, fill: (cell) => (Math.abs(cell.value) > 0.6 ? "#ffffff" : colour("ink")) }),
      ],
    });
    element.replaceChildren(plot);
    const rows = matrix.methods.map((name, i) => [title(name), ...matrix.values[i].map((value) => [Format.correlation(value), value])]);
    at("correlations-table").replaceChildren(Tables.plain(["", ...names], rows));
  }

  function agreement() {
    const chosen = at("agreement-statistic");
    if (!chosen.options.length) {
      chosen.append(...[...new Set(charts.agreement.map((point) => point.statistic))].map((name) => make("option", {}, name)));
      chosen.addEventListener("change", agreement);
    }
    const element = at("agreement");
    const points = charts.agreement.filter((point) => point.statistic === chosen.value && point.value !== null);
    points.sort((left, right) => right.value - left.value);
    const names = points.map((point) => title(point.method)), y = (point) => title(point.method);
    const label = (point) => `${title(point.method)}\nsame runs: ${Format.correlation(point.value)} (${Format.correlation(point.low)} to ${Format.correlation(point.high)})\nother runs: ${Format.correlation(point.other)}`;
    const plot = Plot.plot({
      ...base, width: width(element), height: 26 * names.length + 70, marginLeft: 110, marginBottom: 42,
      x: { label: "rank correlation with leave-one-out", domain: [Math.min(-0.25, ...points.map((point) => point.low ?? 0)), 1], grid: true },
      y: { domain: names, label: null },
      marks: [
        Plot.ruleX([0], { stroke: colour("soft") }),
        points[0]?.loo_of_other_runs === null ? null : Plot.ruleX([points[0]?.loo_of_other_runs ?? 1], { strokeDasharray: "5 4" }),
        Plot.ruleY(points.filter((point) => point.low !== null), { y, x1: "low", x2: "high", stroke: colour("helpful"), strokeWidth: 2 }),
        Plot.dot(points, { y, x: "value", fill: colour("helpful"), r: 5, tip: true, title: label }),
        Plot.dot(points.filter((point) => point.other !== null), { y, x: "other", stroke: colour("harmful"), strokeWidth: 2, r: 5 }),
      ],
    });
    element.replaceChildren(plot);
    const rows = points.map((point) => [title(point.method), ...["value", "low", "high", "other"].map((key) => [Format.correlation(point[key]), point[key]])]);
    at("agreement-table").replaceChildren(Tables.plain(["method", "same runs", "from", "to", "other runs"], rows));
  }

  function retraining() {
    const halves = charts.lds.filter((row) => row.members > 0), timed = halves.every((row) => row.seconds > 0);
    const rows = halves.length ? halves.map((row) => ({ ...row, place: timed ? row.seconds : row.members, value: row.lds }))
      : charts.left_out.filter((row) => row.estimand === "same run").map((row) => ({ ...row, place: row.left_out, value: row.lds_run, low: row.lds_run_low, high: row.lds_run_high }));
    const where = halves.length ? (timed ? "seconds of training and scoring" : "members") : "training examples left out";
    const ceiling = charts.lds.find((row) => row.method === "exact_prediction");
    const known = rows.filter((row) => row.value !== null && row.place > 0).map((row) => ({ ...row, method: title(row.method) })), element = at("lds");
    const shown = (row) => `${row.method}\n${where}: ${Format.number(row.place)}\nLDS ${Format.correlation(row.value)} (${Format.correlation(row.low)} to ${Format.correlation(row.high)})`;
    const plot = Plot.plot({
      ...base, width: width(element), height: 360,
      x: { type: "log", label: where, tickFormat: "~s" }, y: { label: "linear datamodeling score", grid: true },
      color: { type: "categorical", range: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"] },
      symbol: { legend: true },
      marks: [
        Plot.ruleY([0], { stroke: colour("soft") }),
        ceiling ? Plot.ruleY([ceiling.lds], { strokeDasharray: "5 4" }) : null,
        Plot.line(known, { x: "place", y: "value", stroke: "method", strokeOpacity: 0.5 }),
        Plot.ruleX(known.filter((row) => row.low !== null), { x: "place", y1: "low", y2: "high", stroke: "method", strokeOpacity: 0.6 }),
        Plot.dot(known, { x: "place", y: "value", stroke: "method", symbol: "method", r: 4, tip: true, title: shown }),
      ],
    });
    element.replaceChildren(plot);
    at("lds-caption").textContent = halves.length
      ? `Score of rank agreement with models retrained on random subsets, with 95 % interval, for ensembles of growing size.${ceiling ? ` Dashed: what an exact prediction would reach (${Format.correlation(ceiling.lds)}).` : ""}`
      : "Score of rank agreement with retrainings of the same run that leave few examples out, with 95 % interval.";
    const cells = known.map((row) => [row.method, [Format.number(row.place), row.place], [Format.correlation(row.value), row.value], [Format.correlation(row.low), row.low], [Format.correlation(row.high), row.high]]);
    at("lds-table").replaceChildren(Tables.plain(["method", where, "LDS", "from", "to"], cells));
  }

  return { draw, correlations };
})();
