"use strict";
// The other way around: a training example, whom it helps and harms, and whether its label looks wrong.
const Training = (() => {
  const train = Examples.splits.train;
  const classes = train.label !== null;
  const state = { position: null };
  let picker = null;

  function start(preferred) {
    Lists.fillMethods(at("train-method"));
    Lists.fillCheckpoints(at("train-checkpoints"));
    at("train-method").value = preferred;
    const own = (place) => train.methods[at("train-method").value];
    const filters = {
      "all": () => true,
      ...(classes ? { "label looks wrong": (place) => train.suspicious[place] === 1 } : {}),
      [classes ? "misread by most seeds" : "most tokens misread"]: (place) => train.wrong[place] === 1,
    };
    const orders = {
      "index": (place) => train.index[train.listed[place]],
      "harms most": (place) => -own(place).harmed[place],
      "helps most": (place) => -own(place).helped[place],
      "highest loss first": (place) => -Values.seed_ids.reduce((sum, seed, number) => sum + train.losses[number * train.listed.length + place], 0),
    };
    if (train.self_influence !== null) orders["self-influence"] = (place) => train.self_influence.rank[place];
    picker = Picker("train", "train", filters, orders, (position) => show({ position }));
    for (const id of ["train-method", "train-checkpoints", "train-listed", "train-by"]) {
      at(id).addEventListener("change", () => { if (id === "train-method") picker.update(true); show({}); });
    }
  }

  function show(changes) {
    Object.assign(state, changes);
    if (state.position === null) state.position = picker.first();
    picker.select(state.position);
    const place = Examples.placeOf("train", state.position), method = at("train-method").value;
    at("train-head").replaceChildren(Examples.head("train", state.position, classes ? label(place) : null, self(place)));
    const count = Number(at("train-listed").value), checkpoints = Number(at("train-checkpoints").value);
    const by = at("train-by").value, list = Lists.ordered("train", place, method, checkpoints, count, by);
    const parts = Lists.parts("train", list, method, (test) => Router.go("explorer", { test: Values.test.index[test], a: method, train: train.index[state.position] }));
    at("train-lists").replaceChildren(...parts.map((part) => make("section", { class: "panel" }, ...part)));
    at("train-methods").replaceChildren(table(place));
    Router.note("training", { train: train.index[state.position], a: method, k: checkpoints, n: count, by });
  }

  function label(place) {
    const judges = Values.methods.filter((method) => method.helpful).length;
    const words = `${train.harms_own_class[place]} of ${judges} methods say that it reliably harms the test examples of its own class`;
    const badge = train.suspicious[place] ? make("span", { class: "badge warn" }, "label looks wrong") : make("span", { class: "badge" }, "no sign of a wrong label");
    return make("p", {}, badge, ` ${words}; ${train.wrong[place] ? "most seeds" : "fewer than half of the seeds"} read it as another class after training on it.`);
  }

  function self(place) {
    const own = train.self_influence;
    if (own === null) return make("p", { class: "soft" }, "Self-influence is not computed for so many examples and parameters.");
    return make("p", {}, `Self-influence (squared gradient norm) ${Format.number(own.mean[place])} ± ${Format.number(own.std[place])}, rank ${own.rank[place]} of ${Format.whole(train.index.length)}.`);
  }

  function table(place) {
    const rows = Values.methods.map((method) => {
      const own = train.methods[method.name];
      const cells = [own.helped[place], own.harmed[place]].map((count) => (method.varies ? [Format.whole(count), count] : ["–", null]));
      const tested = own.own && method.varies;
      return [method.title, ...cells, [own.own ? Format.number(own.own[place]) : "–", own.own?.[place] ?? null], [tested ? Format.number(own.own_p[place]) : "–", tested ? own.own_p[place] : null]];
    });
    const found = Tables.plain(["method", "reliably helps", "reliably harms", "mean for its own class", "p of that mean"], rows);
    Tables.sortable(found);
    return found;
  }

  function open(position) { Router.go("training", { train: Values.train.index[position], a: at("method-a").value }); }

  function openLink(link) {
    for (const [id, key] of [["train-method", "a"], ["train-checkpoints", "k"], ["train-listed", "n"], ["train-by", "by"]]) {
      const value = link.get(key);
      if (value && [...at(id).options].some((option) => option.value === value)) at(id).value = value;
    }
    const position = train.byIndex.get(Number(link.get("train") || NaN));
    show({ position: position !== undefined && Examples.placeOf("train", position) >= 0 ? position : state.position });
  }

  return { start, show, open, openLink };
})();
