"use strict";
// Views, links to them, appearance, and the start of everything.
const Router = (() => {
  // Their ids differ from the names in addresses, so that a browser does not scroll to them on its own.
  const views = [...document.querySelectorAll(".view")].map((view) => view.dataset.view);
  const started = new Set();
  let current = null;

  // What follows the # may have been encoded as a whole on its way here, or cut off within a character.
  function address() {
    const text = location.hash.slice(1);
    try { return decodeURIComponent(text); } catch { return text; }
  }

  function parse() {
    const [name, query = ""] = address().split("?");
    return [views.includes(name) ? name : "overview", new URLSearchParams(query)];
  }

  function follow() {
    const [name, link] = parse(), changed = name !== current;
    current = name;
    for (const view of views) at(`view-${view}`).hidden = view !== name;
    for (const anchor of document.querySelectorAll("nav a")) {
      const here = anchor.getAttribute("href") === `#${name}`;
      if (here) anchor.setAttribute("aria-current", "page"); else anchor.removeAttribute("aria-current");
    }
    if (!started.has(name)) {
      started.add(name);
      Views[name]?.start?.();
    }
    Views[name]?.open?.(link);
    if (changed) requestAnimationFrame(() => scrollTo(0, 0));
  }

  // Keep the address of what is shown, so that it can be sent; nothing is followed.
  function note(name, values) {
    if (name !== current) return;
    const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== ""));
    history.replaceState(null, "", `#${name}?${query}`);
  }

  function go(name, values) {
    const target = `#${name}?${new URLSearchParams(values)}`;
    if (location.hash === target) follow(); else location.hash = target;
  }

  return { follow, note, go };
})();

// The method that lists begin with, of those of which positive means helpful if there are any: that of the best LDS where that
// is known, else that which agrees best with leave-one-out, else the most reliable.
function preferredMethod() {
  const helpful = Values.methods.filter((method) => method.helpful);
  const names = (helpful.length ? helpful : Values.methods).map((method) => method.name);
  const best = (key) => names.filter((name) => Values.rows[name]?.[key] != null).sort((left, right) => Values.rows[right][key] - Values.rows[left][key])[0];
  return best("lds") ?? best("with_loo") ?? best("share_reliable") ?? names[0];
}

const Views = {
  overview: { start: startOverview },
  explorer: { start: () => Explorer.start(preferredMethod()), open: (link) => Explorer.open(link) },
  training: { start: () => Training.start(preferredMethod()), open: (link) => Training.openLink(link) },
  data: { start: () => Data.start() },
  provenance: { start: () => Tables.sortable(at("steps")) },
};

function startOverview() {
  const table = at("methods"), select = at("summary-checkpoints");
  Tables.sortable(table);
  Tables.markBest(table);
  if (at("facts")) Tables.sortable(at("facts"));
  if (at("pairs")) Tables.sortable(at("pairs"));
  const numbers = [...new Set(Values.summary.map((row) => row.checkpoints))].sort((left, right) => left - right);
  select.append(...numbers.map((count) => make("option", { value: count }, `${count} checkpoint${count === 1 ? "" : "s"}`)));
  select.value = String(numbers.at(-1));
  select.disabled = numbers.length < 2;
  select.addEventListener("change", () => fillSummary(table, Number(select.value)));
  for (const id of ["correlation-statistic", "correlation-kind"]) at(id)?.addEventListener("change", Charts.correlations);
  Charts.draw();
}

// Put the numbers of summary.csv for so many checkpoints into the table of methods.
function fillSummary(table, checkpoints) {
  const keys = { share_reliable: "share_q_below_level", mean_p: "mean_p_value", signal_to_noise: "median_signal_to_noise" };
  const varying = new Set(Values.methods.filter((method) => method.varies).map((method) => method.name));
  for (const row of Values.summary.filter((one) => one.checkpoints === checkpoints && varying.has(one.method))) {
    for (const [key, column] of Object.entries(keys)) {
      const cell = table.querySelector(`tr[data-method="${CSS.escape(row.method)}"] td[data-key="${key}"]`);
      const form = Values.columns.find((one) => one.key === key).format;
      cell.dataset.value = row[column] ?? "";
      cell.textContent = Format.by[form](row[column]);
    }
  }
  Tables.sortAgain(table);
  Tables.markBest(table);
}

const Appearance = (() => {
  const select = at("theme");

  function apply(value) {
    if (value) document.documentElement.dataset.theme = value; else delete document.documentElement.dataset.theme;
  }

  function remembered() {
    try { return localStorage.getItem("theme") ?? ""; } catch { return ""; }
  }

  function start() {
    select.value = remembered();
    apply(select.value);
    select.addEventListener("change", () => {
      try { localStorage.setItem("theme", select.value); } catch { /* a browser may forbid a local page to remember */ }
      apply(select.value);
      Charts.draw();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Charts.draw());
  }

  return { start };
})();

Appearance.start();
addEventListener("hashchange", Router.follow);
let resizing = null;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => { if (!at("view-overview").hidden) Charts.draw(); }, 200); });
Router.follow();
