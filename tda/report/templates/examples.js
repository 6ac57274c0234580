"use strict";
// One example as a person sees it: picture, text, names, and what the seeds say of it.
const Examples = (() => {
  const splits = {};
  for (const name of ["test", "train"]) {
    const split = Values[name];
    splits[name] = {
      ...split,
      slots: split.shown === null ? null : new Map(split.shown.map((position, slot) => [position, slot])),
      places: new Map(split.listed.map((position, place) => [position, place])),
      byIndex: new Map(split.index.map((index, position) => [index, position])),
    };
  }

  const slotOf = (split, position) => (splits[split].slots === null ? position : splits[split].slots.get(position) ?? null);
  const placeOf = (split, position) => splits[split].places.get(position) ?? -1;
  const labelOf = (split, position) => splits[split].label?.[position] ?? null;
  const fileOf = (split, position) => splits[split].file?.[position] ?? null;
  const indexOf = (split, position) => splits[split].index[position];
  const textOf = (split, position) => {
    const slot = slotOf(split, position);
    return slot === null ? null : splits[split].texts?.[slot] ?? null;
  };

  function nameOf(split, position) {
    const label = Format.classOf(labelOf(split, position));
    return `${label ? `${label}, ` : ""}#${indexOf(split, position)}`;
  }

  function picture(split, position, size) {
    const sheet = splits[split].sheet, slot = slotOf(split, position);
    if (sheet === null) return null;
    const [width, height] = sheet.cell, factor = size / Math.max(width, height);
    const box = { width: `${width * factor}px`, height: `${height * factor}px` };
    if (slot === null) return make("span", { class: "absent", style: box }, "not in the page");
    const column = slot % sheet.columns, row = Math.floor(slot / sheet.columns);
    return make("span", {
      class: `thumb ${split}${sheet.smooth ? "" : " pixels"}`, role: "img",
      "aria-label": `${split === "test" ? "test" : "training"} example ${nameOf(split, position)}`,
      style: {
        ...box,
        backgroundSize: `${sheet.columns * width * factor}px ${sheet.rows * height * factor}px`,
        backgroundPosition: `${-column * width * factor}px ${-row * height * factor}px`,
      },
    });
  }

  function text(split, position, most = Infinity) {
    const found = textOf(split, position);
    if (found === null) return null;
    return make("bdi", { class: "text", dir: "auto" }, found.length > most ? `${found.slice(0, most)} …` : found);
  }

  function file(split, position) {
    const found = fileOf(split, position);
    return found === null ? null : make("bdi", { class: "file", dir: "ltr" }, Format.name(found));
  }

  // What is known of an example besides its label: its group, and what its label should be.
  function known(split, position) {
    const own = splits[split], group = own.group?.[position], truth = own.true_label?.[position];
    if (group === undefined && truth === undefined) return null;
    const wrong = truth !== undefined && truth !== labelOf(split, position);
    return make("p", {}, truth === undefined ? null : make("span", { class: wrong ? "badge warn" : "badge" }, "true label ", isolated(truth < 0 ? "none of the task" : Format.classOf(truth))),
      group === undefined ? null : make("span", { class: "badge" }, "group ", isolated(Format.name(group))));
  }

  // Large picture and text, the label, and each seed's loss and prediction.
  function head(split, position, ...more) {
    const place = placeOf(split, position), own = splits[split], count = own.listed.length;
    const seeds = Values.seed_ids.map((seed, number) => ({
      seed, loss: own.losses[number * count + place], right: own.right[number * count + place],
      predicted: own.predicted === null ? null : own.predicted[number * count + place],
    }));
    const label = labelOf(split, position);
    const said = seeds.map((one) => {
      const words = one.predicted === null ? `${Format.percent(one.right)} right` : Format.classOf(one.predicted);
      const off = one.predicted === null ? one.right < 0.5 : one.right < 1;
      return make("li", { class: off ? "off" : null, title: `seed ${one.seed}: loss ${Format.number(one.loss)} nats` },
        make("small", {}, `seed ${one.seed}${off ? " ✗" : ""}`), make("b", {}, isolated(words)), make("small", {}, `loss ${Format.number(one.loss)}`));
    });
    const wrong = seeds.filter((one) => one.right < 1).length;
    const words = own.predicted === null ? null
      : wrong === 0 ? "every seed reads it as its label" : `${wrong} of ${seeds.length} seeds read it as something else`;
    return make("div", { class: "head" },
      picture(split, position, 144),
      make("div", {},
        make("h3", {}, `${split === "test" ? "Test" : "Training"} example #${indexOf(split, position)}`, label === null ? "" : ", label ", label === null ? "" : isolated(Format.classOf(label))),
        file(split, position), known(split, position), text(split, position),
        words === null ? null : make("p", {}, words),
        make("ul", { class: "seeds", "aria-label": "what each seed predicts" }, said), ...more));
  }

  return { splits, slotOf, placeOf, labelOf, fileOf, indexOf, textOf, nameOf, picture, text, file, head };
})();

// A grid of examples to choose from, by search, class, filter and order; arrow keys move in it.
function Picker(name, split, filters, orders, choose) {
  const PAGE = 96, own = Examples.splits[split];
  const control = (part) => at(`${name}-${part}`);
  const state = { found: [], page: 0, chosen: null };

  if (own.label === null || !Values.class_names.length) control("class").parentElement.hidden = true;
  else control("class").append(...Values.class_names.map((title, label) => make("option", { value: label }, Format.name(title))));
  control("filter").append(...Object.keys(filters).map((title) => make("option", {}, title)));
  control("order").append(...Object.keys(orders).map((title) => make("option", {}, title)));
  if (own.sheet === null) control("grid").classList.add("texts");

  function matches(position, words) {
    if (!words) return true;
    if (/^#?\d+$/.test(words)) return String(own.index[position]) === words.replace("#", "");
    const parts = [Format.classOf(own.label?.[position]), own.group?.[position] ?? "", Examples.fileOf(split, position) ?? "", Examples.textOf(split, position) ?? ""];
    return parts.some((part) => part.toLowerCase().includes(words));
  }

  function update(keepPage = false) {
    const words = control("search").value.trim().toLowerCase(), label = control("class").value;
    const passes = filters[control("filter").value], order = orders[control("order").value];
    let places = own.listed.map((position, place) => place).filter((place) => {
      const position = own.listed[place];
      return (label === "" || String(own.label?.[position]) === label) && passes(place) && matches(position, words);
    });
    const keys = new Map(places.map((place) => [place, order(place)]));
    places.sort((left, right) => keys.get(left) - keys.get(right) || own.index[own.listed[left]] - own.index[own.listed[right]]);
    state.found = places;
    if (!keepPage) state.page = 0;
    draw();
  }

  function draw() {
    const start = state.page * PAGE, shown = state.found.slice(start, start + PAGE);
    const buttons = shown.map((place, number) => {
      const position = own.listed[place], chosen = position === state.chosen;
      return make("button", {
        type: "button", role: "option", "aria-selected": String(chosen), tabindex: chosen || (number === 0 && !shown.some((one) => own.listed[one] === state.chosen)) ? 0 : -1,
        class: own.wrong[place] ? "wrong" : null, "data-index": own.index[position], title: own.wrong[place] ? (own.label === null ? "most tokens misread" : "misread by most seeds") : null,
        on: { click: () => choose(position), keydown: move },
      }, Examples.picture(split, position, 56), Examples.text(split, position, 90), make("div", {}, isolated(Examples.nameOf(split, position))));
    });
    control("grid").replaceChildren(...(buttons.length ? buttons : [make("p", { class: "none" }, "No example is like this.")]));
    const last = Math.min(start + PAGE, state.found.length);
    control("count").textContent = `${state.found.length ? start + 1 : 0}–${last} of ${Format.whole(state.found.length)}`;
    control("before").disabled = state.page === 0;
    control("after").disabled = last >= state.found.length;
  }

  function move(event) {
    const buttons = [...control("grid").querySelectorAll("button")], here = buttons.indexOf(event.currentTarget);
    const columns = getComputedStyle(control("grid")).gridTemplateColumns.split(" ").length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -here, End: buttons.length - 1 - here };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = buttons[Math.max(0, Math.min(buttons.length - 1, here + steps[event.key]))];
    buttons.forEach((button) => { button.tabIndex = -1; });
    next.tabIndex = 0;
    next.focus();
  }

  function select(position) {
    state.chosen = position;
    for (const button of control("grid").querySelectorAll("button")) {
      const chosen = Number(button.dataset.index) === own.index[position];
      button.setAttribute("aria-selected", String(chosen));
      if (chosen) button.tabIndex = 0;
    }
  }

  for (const part of ["class", "filter", "order"]) control(part).addEventListener("change", () => update());
  control("search").addEventListener("input", () => update());
  control("before").addEventListener("click", () => { state.page -= 1; draw(); });
  control("after").addEventListener("click", () => { state.page += 1; draw(); });
  update();
  return { select, update, first: () => own.listed[state.found[0] ?? 0] };
}
