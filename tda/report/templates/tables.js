"use strict";
// Tables that a click on a heading sorts: numbers by their value, the rest by its letters, what is unknown last.
const Tables = (() => {
  function sortable(table) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = make("button", { type: "button", class: "sort", on: { click: () => sort(table, column) } }, heading.textContent);
      heading.replaceChildren(button);
    });
  }

  function sort(table, column, direction = null) {
    const headings = [...table.tHead.rows[0].cells], heading = headings[column];
    const first = heading.classList.contains("n") && heading.dataset.better !== "low" ? "descending" : "ascending";
    const other = { ascending: "descending", descending: "ascending" };
    const chosen = direction ?? (heading.hasAttribute("aria-sort") ? other[heading.getAttribute("aria-sort")] : first);
    headings.forEach((cell) => cell.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", chosen);
    const body = table.tBodies[0], turn = chosen === "ascending" ? 1 : -1;
    const rows = [...body.rows].filter((row) => row.cells.length > column).map((row) => [key(row.cells[column]), row]);
    rows.sort(([left], [right]) => (left === null) - (right === null) || (left === null ? 0 : turn * compare(left, right)));
    body.append(...rows.map(([, row]) => row));
  }

  // Sort rows that are new, or have new values, as the table says that it is sorted.
  function sortAgain(table) {
    const column = [...table.tHead.rows[0].cells].findIndex((heading) => heading.hasAttribute("aria-sort"));
    if (column >= 0) sort(table, column, table.tHead.rows[0].cells[column].getAttribute("aria-sort"));
  }

  function key(cell) {
    const value = cell.dataset.value;
    if (value === undefined) return cell.textContent.trim().toLowerCase();
    return value === "" ? null : Number.isNaN(Number(value)) ? value.toLowerCase() : Number(value);
  }

  function compare(left, right) {
    if (typeof left === "number" && typeof right === "number") return left - right;
    return String(left).localeCompare(String(right), "en", { numeric: true });
  }

  // A plain table of rows of cells; a cell is a text, or [text, value to sort by].
  function plain(headings, rows) {
    const head = headings.map((heading, column) => make("th", { scope: "col", class: column ? "n" : null }, heading));
    const cells = (row) => row.map((cell, column) => {
      const [text, value] = Array.isArray(cell) ? cell : [cell, undefined];
      return make(column ? "td" : "th", { class: column ? "n" : null, scope: column ? null : "row", "data-value": value === null ? "" : value }, text);
    });
    return make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows.map((row) => make("tr", {}, cells(row)))));
  }

  // Mark the best number of every column that has a better end, of the rows that are judged.
  function markBest(table) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const better = heading.dataset.better;
      const rows = [...table.tBodies[0].rows];
      rows.forEach((row) => row.cells[column].classList.remove("best"));
      const known = rows.filter((row) => row.dataset.judged !== "no").map((row) => row.cells[column]).filter((cell) => cell.dataset.value);
      if (!better || known.length < 2) return;
      const numbers = known.map((cell) => Number(cell.dataset.value));
      const best = better === "low" ? Math.min(...numbers) : Math.max(...numbers);
      known.forEach((cell, place) => cell.classList.toggle("best", numbers[place] === best));
    });
  }

  return { sortable, sort, sortAgain, plain, markBest };
})();
