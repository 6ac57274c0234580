"use strict";
// Lists of pairs with a strip of the seeds' scores, and the view of a test example.
const Lists = (() => {
  const methods = Object.fromEntries(Values.methods.map((method) => [method.name, method]));
  const titleOf = (name) => methods[name].title;
  const level = Values.level;

  function headings(method) {
    return methods[method].helpful
      ? { helpful: ["most helpful", "the test loss would be higher without it"], harmful: ["most harmful", "the test loss would be lower without it"] }
      : { helpful: ["most alike", "positive means alike, not helpful"], harmful: ["least alike", "negative means unlike, not harmful"] };
  }

  // Dots for the seeds on a scale that all rows of a list share, 0 dashed, the mean as a line; hollow where noise may be all.
  function strip(row, largest) {
    const width = 150, height = 22, place = (value) => width / 2 + (largest > 0 ? value / largest : 0) * (width / 2 - 6);
    const kind = `strip ${row.mean >= 0 ? "helpful" : "harmful"} ${row.q < level ? "clear" : "unclear"}`;
    const svg = drawing("svg", { class: kind, width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `scores of the seeds: ${row.seeds.map(Format.number).join(", ")}` });
    const title = drawing("title");
    title.textContent = Values.seed_ids.map((seed, number) => `seed ${seed}: ${Format.number(row.seeds[number])}`).join("\n");
    svg.append(title, drawing("line", { class: "axis", x1: 0, x2: width, y1: height / 2, y2: height / 2 }),
      drawing("line", { class: "zero", x1: width / 2, x2: width / 2, y1: 1, y2: height - 1 }),
      ...row.seeds.map((value) => drawing("circle", { cx: place(value).toFixed(1), cy: height / 2, r: 3.5 })),
      drawing("line", { class: "mean", x1: place(row.mean), x2: place(row.mean), y1: 4, y2: height - 4 }));
    return svg;
  }

  function verdict(q, method) {
    if (!methods[method].varies) return make("span", { class: "badge", title: "seeds tell nothing of it" }, "same for every seed");
    return q < level ? make("span", { class: "badge yes" }, "reliable") : make("span", { class: "badge" }, "may be noise");
  }

  function quality(row, method) {
    return methods[method].varies ? Format.q(row.q, row.least) : "–";
  }

  // A table of the others in a list by a method; open: what a click on a row does with the other's position.
  function table(rows, largest, others, method, open, also = new Set()) {
    const lines = rows.map((row, rank) => {
      const button = make("button", { type: "button", class: "name", "data-index": Examples.indexOf(others, row.position) }, isolated(Examples.nameOf(others, row.position)));
      return make("tr", { "data-position": row.position, on: { click: () => open(row.position) } },
        make("td", {}, String(rank + 1)),
        make("td", {}, Examples.picture(others, row.position, 44), Examples.text(others, row.position)),
        make("td", {}, button, also.has(row.position) ? make("span", { title: "also in the list beside it" }, " ⇄") : null, Examples.file(others, row.position)),
        make("td", { class: "n mean", "data-value": row.mean }, Format.number(row.mean), row.std === undefined ? null : make("small", { class: "std" }, ` ± ${Format.number(row.std)}`)),
        make("td", { class: "n q", "data-value": row.q }, quality(row, method), make("br"), verdict(row.q, method)),
        make("td", {}, row.seeds === undefined ? make("small", {}, "not among the ten largest") : strip(row, largest)));
    });
    const head = ["", "", others === "train" ? "training example" : "test example", "mean ± deviation", "q", "each seed"];
    return make("table", { class: "list" },
      make("thead", {}, make("tr", {}, head.map((text, column) => make("th", { scope: "col", class: column === 3 || column === 4 ? "n" : null }, text)))),
      make("tbody", {}, lines));
  }

  function largestOf(list) {
    const rows = [...list.helpful, ...list.harmful];
    return Math.max(0, ...rows.flatMap((row) => (row.seeds ?? []).map(Math.abs)), ...rows.map((row) => Math.abs(row.mean)));
  }

  // Both lists of an example, by the size of the mean or by q, of all others where the page holds them all.
  function ordered(direction, place, method, checkpoints, count, by) {
    const list = Packed.list(direction, method, checkpoints, place);
    if (by !== "q") return { helpful: list.helpful.slice(0, count), harmful: list.harmful.slice(0, count) };
    const known = new Map([...list.helpful, ...list.harmful].map((row) => [row.position, row]));
    const every = (checkpoints === Values.checkpoints.at(-1) && Packed.all(direction, method, place)) || [...known.values()];
    const rows = every.map((row) => known.get(row.position) ?? row);
    rows.sort((left, right) => left.q - right.q || Math.abs(right.mean) - Math.abs(left.mean));
    return { helpful: rows.filter((row) => row.mean > 0).slice(0, count), harmful: rows.filter((row) => row.mean < 0).slice(0, count) };
  }

  // Both lists of an example by a method, as panels.
  function parts(direction, list, method, open, other = null) {
    const largest = largestOf(list);
    const others = direction === "test" ? "train" : "test", words = headings(method);
    return ["helpful", "harmful"].map((side) => {
      const rows = list[side];
      const also = new Set(other === null ? [] : other[side].map((row) => row.position));
      return [make("h4", {}, make("span", { class: side === "helpful" ? "plus" : "minus" }, `${side === "helpful" ? "+" : "−"} ${words[side][0]}`), make("small", {}, ` ${words[side][1]}`)),
        rows.length ? make("div", { class: "scroll" }, table(rows, largest, others, method, open, also)) : make("p", { class: "none" }, "No score has this sign.")];
    });
  }

  function fillMethods(select, none = null) {
    if (none !== null) select.append(make("option", { value: "" }, none));
    const groups = [["positive means helpful", true], ["positive means alike", false]];
    for (const [label, helpful] of groups) {
      const own = Values.methods.filter((method) => method.helpful === helpful);
      if (own.length) select.append(make("optgroup", { label }, own.map((method) => make("option", { value: method.name }, method.title))));
    }
  }

  function fillCheckpoints(select) {
    select.append(...Values.checkpoints.map((count) => make("option", { value: count }, count === 1 ? "the last" : `the last ${count}`)));
    select.value = String(Values.checkpoints.at(-1));
  }

  return { methods, titleOf, strip, verdict, quality, ordered, parts, fillMethods, fillCheckpoints };
})();

const Explorer = (() => {
  const test = Examples.splits.test, complete = Values.complete;
  const state = { position: null, train: null };
  let picker = null;

  function start(preferred) {
    Lists.fillMethods(at("method-a"));
    Lists.fillMethods(at("method-b"), "none");
    Lists.fillCheckpoints(at("checkpoints"));
    at("method-a").value = preferred;
    const share = (place) => test.share[at("method-a").value][place];
    const loss = (place) => Values.seed_ids.reduce((sum, seed, number) => sum + test.losses[number * test.listed.length + place], 0);
    const middle = [...test.disagreement].sort((left, right) => left - right)[Math.floor(0.9 * test.disagreement.length)];
    const filters = {
      "all": () => true,
      [test.label === null ? "most tokens misread" : "misclassified"]: (place) => test.wrong[place] === 1,
      "seeds differ": (place) => Values.seed_ids.some((seed, number) => test.right[number * test.listed.length + place] !== test.right[place]),
      "methods disagree": (place) => test.disagreement[place] > 0 && test.disagreement[place] >= middle,
    };
    const orders = {
      "index": (place) => test.index[test.listed[place]],
      "most reliable first": (place) => -share(place),
      "least reliable first": share,
      "most disagreement first": (place) => -test.disagreement[place],
      "highest loss first": (place) => -loss(place),
    };
    picker = Picker("test", "test", filters, orders, (position) => show({ position, train: null }));
    for (const id of ["method-a", "method-b", "checkpoints", "listed", "by"]) {
      at(id).addEventListener("change", () => { if (id === "method-a") picker.update(true); show({}); });
    }
  }

  function show(changes) {
    Object.assign(state, changes);
    if (state.position === null) state.position = picker.first();
    picker.select(state.position);
    const place = Examples.placeOf("test", state.position), a = at("method-a").value, b = at("method-b").value;
    const pairs = Format.whole(Values.train.index.length), told = Lists.methods[a].varies
      ? `${Lists.titleOf(a)} tells ${Format.percent(test.share[a][place])} of its ${pairs} pairs from noise`
      : `${Lists.titleOf(a)} scores its ${pairs} pairs the same for every seed`;
    const reliable = make("p", {}, `${told}; the methods’ disagreement on it is ${Format.number(test.disagreement[place])} (0: same order, 1: unrelated).`);
    at("test-head").replaceChildren(Examples.head("test", state.position, reliable));
    const count = Number(at("listed").value), checkpoints = Number(at("checkpoints").value), by = at("by").value;
    const lists = Object.fromEntries([a, b].filter(Boolean).map((name) => [name, Lists.ordered("test", place, name, checkpoints, count, by)]));
    const panel = (name, other) => make("section", { class: "panel", "data-method": name },
      make("h3", {}, Lists.titleOf(name)), ...Lists.parts("test", lists[name], name, (train) => show({ train }), other ? lists[other] : null).flat());
    at("test-lists").replaceChildren(panel(a, b), ...(b && b !== a ? [panel(b, a)] : []));
    for (const row of at("test-lists").querySelectorAll("tr[data-position]")) row.classList.toggle("open", Number(row.dataset.position) === state.train);
    at("pair").replaceChildren(...(state.train === null ? [make("p", { class: "soft" }, "Choose a training example of a list to see what every method says of the pair.")] : [pair(place)]));
    Router.note("explorer", { test: test.index[state.position], a, b, k: checkpoints, n: count, by, train: state.train === null ? "" : Values.train.index[state.train] });
  }

  // What every method says of the chosen pair, and its influence maps.
  function pair(place) {
    const trainPlace = Examples.placeOf("train", state.train), checkpoints = Values.checkpoints.at(-1);
    const rows = Values.methods.map((method) => {
      const list = Packed.list("test", method.name, checkpoints, place);
      const listed = [...list.helpful, ...list.harmful].find((row) => row.position === state.train);
      const found = listed ?? Packed.pair(method.name, place, trainPlace);
      const rank = list.helpful.findIndex((row) => row.position === state.train), last = list.harmful.findIndex((row) => row.position === state.train);
      const where = rank >= 0 ? `${rank + 1}. most ${method.helpful ? "helpful" : "alike"}` : last >= 0 ? `${last + 1}. ${method.helpful ? "most harmful" : "least alike"}` : "in between";
      const unknown = "not in the page, see the tables";
      return make("tr", { "data-method": method.name },
        make("th", { scope: "row" }, method.title),
        make("td", { class: "n", "data-value": found?.mean ?? "" }, found ? Format.number(found.mean) : unknown),
        make("td", { class: "n", "data-value": found?.q ?? "" }, found ? Lists.quality(found, method.name) : "–"),
        make("td", {}, found ? Lists.verdict(found.q, method.name) : null),
        make("td", {}, where), make("td", {}, listed ? Lists.strip(listed, Math.max(...listed.seeds.map(Math.abs), Math.abs(listed.mean))) : null));
    });
    const table = make("table", { class: "sortable", id: "pair-table" },
      make("thead", {}, make("tr", {}, ["method", "mean", "q", "", "place", "each seed"].map((text, column) => make("th", { scope: "col", class: column === 1 || column === 2 ? "n" : null }, text)))),
      make("tbody", {}, rows));
    Tables.sortable(table);
    const open = make("button", { type: "button", class: "act", on: { click: () => Training.open(state.train) } }, "Open as a training example");
    return make("section", { class: "panel" },
      make("h3", {}, "The pair, by every method"),
      make("div", { class: "head" }, Examples.picture("test", state.position, 88), Examples.picture("train", state.train, 88),
        make("div", {}, make("p", {}, "test ", isolated(Examples.nameOf("test", state.position)), " with training ", isolated(Examples.nameOf("train", state.train))), open)),
      make("div", { class: "scroll" }, table),
      place >= complete ? make("p", { class: "soft" }, `The page holds all pairs of ${Format.whole(complete)} test examples; of this one, those in the lists.`) : null,
      maps());
  }

  function maps() {
    const own = Values.maps.filter((entry) => entry.test === test.index[state.position] && entry.train === Values.train.index[state.train]);
    if (!own.length) return make("p", { class: "soft" }, "No influence map was made of this pair (run_feature_attribution.py makes them).");
    const figures = own.map((entry) => {
      const canvas = make("canvas", { class: "map", width: entry.width, height: entry.height, role: "img", "aria-label": `influence map by ${entry.score}`, style: { width: "168px", height: `${(168 * entry.height) / entry.width}px` } });
      const context = canvas.getContext("2d"), image = context.createImageData(entry.width, entry.height), steps = Packed.map(entry);
      steps.forEach((step, pixel) => {
        const share = step / 127, end = share > 0 ? [0, 114, 178] : [213, 94, 0];
        for (let channel = 0; channel < 3; channel++) image.data[4 * pixel + channel] = 247 + Math.abs(share) * (end[channel] - 247);
        image.data[4 * pixel + 3] = 255;
      });
      context.putImageData(image, 0, 0);
      return make("figure", {}, canvas, make("figcaption", {}, `${Values.methods.find((method) => method.name === entry.score)?.title ?? entry.score}: which pixels of the training image carry its influence`,
        make("div", { class: "scale" }), make("div", { class: "ends" }, make("span", {}, Format.number(-entry.largest)), make("span", {}, "0"), make("span", {}, Format.number(entry.largest)))));
    });
    return make("div", { class: "maps" }, figures);
  }

  // The view that a link names: indices of examples, methods, numbers of checkpoints and of listed pairs.
  function open(link) {
    const choose = (id, value) => { if (value && [...at(id).options].some((option) => option.value === value)) at(id).value = value; };
    choose("method-a", link.get("a"));
    if (link.has("b")) at("method-b").value = link.get("b");
    choose("checkpoints", link.get("k"));
    choose("listed", link.get("n"));
    choose("by", link.get("by"));
    const position = test.byIndex.get(Number(link.get("test") || NaN)), train = Examples.splits.train.byIndex.get(Number(link.get("train") || NaN));
    const known = position !== undefined && Examples.placeOf("test", position) >= 0;
    show({ position: known ? position : state.position, train: train ?? null });
  }

  return { start, show, open };
})();
