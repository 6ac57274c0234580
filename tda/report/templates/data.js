"use strict";
// The training examples that should perhaps go: the debiasing step's table where there is one, else what this page's numbers say.
const Data = (() => {
  const written = JSON.parse(document.getElementById("candidates").textContent);
  const train = Examples.splits.train, classes = train.label !== null;
  let shown = [];

  function own() {
    const judges = Values.methods.filter((method) => method.helpful && train.methods[method.name].own);
    // Each a column's name and its cell for an example; what concerns labels is left out where examples have none.
    const truth = (position) => (train.true_label[position] < 0 ? "none of the task" : Format.classOf(train.true_label[position]));
    const parts = [
      ["index", (position) => train.index[position]],
      train.file && ["file", (position) => train.file[position]],
      classes && ["label", (position) => Format.classOf(train.label[position])],
      train.true_label && ["true_label", truth],
      classes && ["looks_wrong", (position, place) => train.suspicious[place] === 1],
      [classes ? "misread_by_most_seeds" : "most_tokens_misread", (position, place) => train.wrong[place] === 1],
      classes && ["methods_harmful", (position, place) => train.harms_own_class[place]],
      train.self_influence && ["self_influence", (position, place) => train.self_influence.mean[place]],
      ...judges.flatMap((method) => {
        const own = train.methods[method.name];
        const verdict = (place) => (own.own_p[place] < Values.level ? (own.own[place] < 0 ? "harmful" : "helpful") : "unclear");
        return [[`${method.name}_mean`, (position, place) => own.own[place]], [`${method.name}_p`, (position, place) => own.own_p[place]],
          [`${method.name}_verdict`, (position, place) => verdict(place)]];
      }),
    ].filter(Boolean);
    const columns = parts.map(([name]) => name), rows = train.listed.map((position, place) => parts.map(([, cell]) => cell(position, place)));
    const first = columns.indexOf("looks_wrong"), second = columns.indexOf("methods_harmful"), pull = columns.indexOf("self_influence");
    rows.sort(classes ? (left, right) => Number(right[first]) - Number(left[first]) || right[second] - left[second] : (left, right) => (pull < 0 ? 0 : right[pull] - left[pull]));
    return { name: `${Values.experiment}_removal_candidates.csv`, columns, rows, total: rows.length };
  }

  const source = written ?? own();
  const judged = source.columns.filter((column) => column.endsWith("_verdict")).map((column) => column.slice(0, -"_verdict".length));
  const plain = source.columns.filter((column) => !judged.some((prefix) => ["mean", "std", "q", "p", "verdict"].some((part) => column === `${prefix}_${part}`)));
  const titleOf = (prefix) => Values.methods.find((method) => method.name === prefix.split(" ")[0])?.title ?? prefix.replaceAll("_", " ");
  const harmful = source.columns.findIndex((column) => column === "verdicts_harmful"), wrong = source.columns.indexOf("looks_wrong");
  const suspicious = (row) => (wrong >= 0 ? row[wrong] === true : harmful < 0 || row[harmful] > 0);

  function start() {
    at("candidates-source").replaceChildren(...(written
      ? [`From ${source.name}, which the debiasing step wrote${source.total > source.rows.length ? ` (the first ${Format.whole(source.rows.length)} of ${Format.whole(source.total)} rows)` : ""}.`]
      : !classes ? ["These examples have no classes, so that no label can look wrong; those that pull most on themselves (squared gradient norm) come first."]
      : ["A label looks wrong where most seeds read the example as another class although they were trained on it, or where most methods say that it reliably harms the test examples of its own class. Look at an example before it goes."]),
      ...(written || train.listed.length === train.index.length ? [] : [` The page tells of ${Format.whole(train.listed.length)} of the ${Format.whole(train.index.length)} training examples, those that lists name most; the others are not judged here.`]));
    at("candidates-search").addEventListener("input", draw);
    at("candidates-filter").addEventListener("change", draw);
    if (!written && !classes) {
      at("candidates-filter").value = "all";
      at("candidates-filter").parentElement.hidden = true;
    }
    at("candidates-download").addEventListener("click", download);
    const table = at("candidates-table");
    const heads = [...plain.map((column) => make("th", { scope: "col", class: numeric(column) ? "n" : null }, column.replaceAll("_", " "))),
      ...judged.map((prefix) => make("th", { scope: "col" }, titleOf(prefix)))];
    table.append(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "example"), heads)), make("tbody"));
    Tables.sortable(table);
    draw();
  }

  function numeric(column) {
    const place = source.columns.indexOf(column);
    return source.rows.some((row) => typeof row[place] === "number");
  }

  function draw() {
    const words = at("candidates-search").value.trim().toLowerCase(), all = at("candidates-filter").value === "all";
    shown = source.rows.filter((row) => (all || suspicious(row)) && (!words || row.some((cell) => String(cell).toLowerCase().includes(words))));
    const place = source.columns.indexOf("index");
    const rows = shown.map((row) => {
      const position = train.byIndex.get(row[place]);
      const open = position === undefined || Examples.placeOf("train", position) < 0 ? null
        : make("button", { type: "button", on: { click: () => Training.open(position) }, "aria-label": `open training example ${row[place]}` }, Examples.picture("train", position, 36) ?? "open");
      return make("tr", {}, make("td", { "data-value": row[place] }, open), plain.map((column) => cellOf(row[source.columns.indexOf(column)])), judged.map((prefix) => judgement(row, prefix)));
    });
    if (!rows.length) rows.push(make("tr", {}, make("td", { colspan: plain.length + judged.length + 1, class: "none" }, "No example is like this.")));
    at("candidates-table").tBodies[0].replaceChildren(...rows);
    Tables.sortAgain(at("candidates-table"));
    at("candidates-count").textContent = `${Format.whole(shown.length)} of ${Format.whole(source.rows.length)} examples`;
  }

  function cellOf(value) {
    const text = value === null ? "–" : typeof value === "number" ? (Number.isInteger(value) ? String(value) : Format.number(value)) : typeof value === "boolean" ? (value ? "yes" : "no") : isolated(Format.name(value));
    return make("td", { class: typeof value === "number" ? "n" : null, "data-value": value ?? "" }, text);
  }

  // What a method says of an example: its verdict, and the numbers behind it.
  function judgement(row, prefix) {
    const part = (name) => row[source.columns.indexOf(`${prefix}_${name}`)], said = part("verdict"), mean = part("mean") ?? null;
    const numbers = ["mean", "std", "q", "p"].filter((name) => typeof part(name) === "number").map((name) => `${name} ${Format.number(part(name))}`).join("\n");
    const kind = said === "harmful" ? "badge warn" : said === "helpful" ? "badge yes" : "badge";
    return make("td", { "data-value": mean ?? "" }, make("span", { class: kind }, String(said)), make("small", { class: "lines" }, numbers));
  }

  // Cells that a spreadsheet would run as a formula get an apostrophe in front.
  function cell(value) {
    if (value === null) return "";
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function csv() {
    return [source.columns, ...shown].map((row) => row.map(cell).join(",")).join("\n") + "\n";
  }

  function download() {
    const link = make("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: source.name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  return { start, csv };
})();
