"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

  /** Make an element; text is always set as text. */
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== false) element.setAttribute(key, value);
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  // ---- numbers ----

  const MINUS = "\u2212";
  function significant(value, digits = 3) {
    if (typeof value !== "number") return "";
    if (value === 0 || Number.isInteger(value)) return String(value).replace("-", MINUS);
    const whole = Math.floor(Math.log10(Math.abs(value))) + 1;
    return value.toFixed(Math.min(12, Math.max(0, digits - whole))).replace("-", MINUS);
  }
  const shown = {
    text: (value) => value ?? "",
    number: (value) => significant(value),
    fixed: (value, decimals) => (typeof value === "number" ? value.toFixed(decimals) : ""),
    signed: (value, decimals) => {
      if (typeof value !== "number") return "";
      const text = Math.abs(value).toFixed(decimals);
      return (Number(text) === 0 ? "\u00b1" : value < 0 ? MINUS : "+") + text;
    },
  };
  /** Verdicts and classes are names in data; people read words. */
  const words = (name) => (typeof name === "string" ? name.replaceAll("_", " ") : name);

  // ---- the tooltip: what Vega hands over is set as text ----

  const tip = $("#tip");
  function showTip(_handler, event, _item, value) {
    if (value === null || value === undefined || value === "") { tip.hidden = true; return; }
    const pairs = typeof value === "object" ? Object.entries(value) : [["", value]];
    const list = make("dl");
    for (const [name, text] of pairs) {
      if (text === null || text === "" || text === "null" || text === "undefined") continue;
      list.append(make("dt", {}, name), make("dd", {}, name === "verdict" ? words(text) : plainNumber(text)));
    }
    tip.replaceChildren(list);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - 16 - box.width : event.clientX + 16;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, Math.min(event.clientY + 16, innerHeight - box.height - 8))}px`;
  }
  /** Long figures are of the tool; three or four digits are what they are worth. */
  function plainNumber(value) {
    const text = String(value);
    return /^-?\d+\.\d{4,}(e-?\d+)?$/.test(text) ? significant(Number(text), 4) : text;
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // ---- charts ----

  function themeConfig() {
    const style = getComputedStyle(root);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const text = { labelColor: color("soft"), titleColor: color("soft"), labelFont: font, titleFont: font, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500 };
    return {
      background: "transparent", font, aria: false, view: { stroke: null },
      axis: { ...text, gridColor: color("line"), domainColor: color("line"), tickColor: color("line"), gridOpacity: 0.7, labelLimit: 190, titlePadding: 8 },
      legend: { ...text, orient: "top", symbolSize: 90, symbolOpacity: 1, offset: 8 },
      range: { category: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => color(`c${n}`)) },
      line: { color: color("c1") }, text: { color: color("ink"), fontSize: 12 }, point: { color: color("c1") }, rule: { color: color("soft") },
      style: { front: { stroke: color("soft") }, median: { color: color("ink") }, change: { fill: color("bad") }, star: { stroke: color("ink"), fill: null } },
    };
  }
  const font = getComputedStyle(document.body).fontFamily;

  const DECADE = 10;
  /** A measure that spreads over more than a decade is drawn on a logarithmic axis. */
  function withScales(spec, rows) {
    const copy = structuredClone(spec);
    const wide = (field) => {
      const values = rows.map((row) => row[field]).filter((value) => typeof value === "number");
      const low = Math.min(...values);
      return values.length > 1 && low > 0 && Math.max(...values) / low > DECADE;
    };
    const channels = [];
    const delegates = [...new Set(rows.map((row) => row.delegate))];
    (function walk(part) {
      for (const name of ["color", "shape"]) { // the domain keeps one colour per delegate; the legend lists what is drawn
        const channel = part.encoding?.[name];
        if (channel?.field === "delegate") channel.legend = { ...channel.legend, values: (channel.scale?.domain ?? delegates).filter((delegate) => delegates.includes(delegate)) };
      }
      for (const name of ["x", "y"]) {
        const channel = part.encoding?.[name];
        if (channel?.type === "quantitative" && channel.scale?.nice) channels.push([name, channel]);
      }
      (part.layer ?? part.vconcat ?? []).forEach(walk);
    })(copy);
    for (const name of ["x", "y"]) {
      const own = channels.filter(([channel]) => channel === name).map(([, channel]) => channel);
      if (own.length && own.some((channel) => wide(channel.field))) {
        for (const channel of own) {
          channel.scale = { type: "log", nice: true };
          channel.axis = { ...channel.axis, format: "~g" };
        }
      }
    }
    return copy;
  }

  const MOST_LABELS = 14;
  const MOST_LABELS_NARROW = 5;
  /** Label all points if they are few, else those on the line; the labels of neighbours stand at different heights. */
  function withLabels(rows, recommended, x, narrow) {
    const xs = rows.map((row) => row[x]).filter((value) => typeof value === "number");
    const middle = (Math.min(...xs) + Math.max(...xs)) / 2;
    const few = rows.length <= (narrow ? MOST_LABELS_NARROW : MOST_LABELS);
    const count = (variant) => rows.filter((row) => row.variant === variant).length;
    const oneDelegate = new Set(rows.map((row) => row.delegate)).size === 1;
    const order = rows.map((row, index) => [row[x], index]).sort((a, b) => a[0] - b[0]).map(([, index]) => index);
    return rows.map((row, index) => {
      const isRecommended = row.cell === recommended;
      const name = count(row.variant) === 1 ? row.variant : oneDelegate ? row.cell.replace(` on ${row.delegate}`, "") : row.cell;
      const isRight = row[x] > middle;
      return {
        ...row, is_recommended: isRecommended, is_labelled: few || isRecommended ? true : narrow ? false : null,
        label: isRecommended ? `\u2605 ${name}` : name, label_align: isRight ? "right" : "left", label_dx: isRight ? -11 : 11,
        label_dy: [-13, 14, -27, 28][order.indexOf(index) % 4],
      };
    });
  }

  const NARROW_PX = 640;
  const ONLY_ERRORS = 1;
  const MANY_MARKS = 1500;
  const drawn = new Map();
  async function draw(place) {
    const figure = data.figures[place.dataset.figure];
    const section = place.closest("section");
    const group = $("select.group", section)?.value ?? Object.keys(figure.data)[0];
    const view = $("select.view", section)?.value ?? Object.keys(figure.views)[0];
    const narrow = place.clientWidth < NARROW_PX;
    const x = (figure.views[view].layer ?? []).find((layer) => layer.mark.style === "name")?.encoding.x.field;
    const rows = x ? withLabels(figure.data[group], figure.recommended[group], x, narrow) : figure.data[group];
    drawn.get(place)?.finalize();
    drawn.set(place, null);
    place.setAttribute("aria-label", `${figure.title}: ${group}${Object.keys(figure.views).length > 1 ? `, ${view}` : ""}, ${rows.length} points. The data follow as a table.`);
    const spec = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", ...withScales(figure.views[view], rows), data: { values: rows } };
    if (spec.height?.step) { // a height in steps does not go with a width that follows the page
      const field = (spec.encoding ?? spec.layer[0].encoding).y.field;
      spec.height = spec.height.step * new Set(rows.map((row) => row[field])).size;
    }
    if (narrow && spec.encoding?.color?.legend) spec.encoding.color.legend.columns = 1;
    if (spec.vconcat) spec.vconcat.forEach((panel) => { panel.width = Math.max(220, place.clientWidth - 90); });
    try {
      drawn.set(place, await vegaEmbed(place, spec, {
        mode: "vega-lite", actions: false, ast: true, defaultStyle: false, tooltip: showTip, logLevel: ONLY_ERRORS, config: themeConfig(),
        renderer: rows.length > MANY_MARKS ? "canvas" : "svg",
      }));
      $("svg", place)?.setAttribute("aria-hidden", "true"); // the chart as a whole has a name, its data are a table
      place.dataset.drawn = group + "|" + view;
    } catch (error) {
      place.replaceChildren(make("p", { class: "chart-error" }, `This chart cannot be drawn: ${error.message}. Its data are in the table below.`));
    }
    const details = $(".chart-data", section);
    if (details?.open) fillTable(details, figure, rows);
  }

  const MOST_TABLE_ROWS = 1000;
  function fillTable(details, figure, rows) {
    const head = make("tr", {}, ...figure.columns.map(([, heading]) => make("th", { scope: "col" }, heading)));
    const body = rows.slice(0, MOST_TABLE_ROWS).map((row) => make("tr", {}, ...figure.columns.map(([field], index) => {
      const value = row[field];
      const number = typeof value === "number";
      const text = field === "verdict" ? words(value) : value;
      return make(index ? "td" : "th", { scope: index ? null : "row", class: number ? "num" : null }, number ? significant(value, 4) : text ?? "");
    })));
    const caption = rows.length > MOST_TABLE_ROWS ? `The first ${MOST_TABLE_ROWS} of ${rows.length} points` : `${rows.length} points`;
    $(".scroll", details).replaceChildren(make("table", { class: "plain" }, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body)));
  }

  const charts = $$(".chart");
  const nearby = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { nearby.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "600px" });
  for (const chart of charts) {
    nearby.observe(chart);
    const section = chart.closest("section");
    $$("select", section).forEach((choice) => choice.addEventListener("change", () => draw(chart)));
    const details = $(".chart-data", section);
    details.addEventListener("toggle", () => {
      const figure = data.figures[chart.dataset.figure];
      const group = $("select.group", section)?.value ?? Object.keys(figure.data)[0];
      if (details.open) fillTable(details, figure, figure.data[group]);
    });
  }
  const redraw = (only = () => true) => { for (const chart of drawn.keys()) if (only(chart)) draw(chart); };
  root.addEventListener("themechange", () => redraw());
  let width = innerWidth;
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (innerWidth === width) return;
      width = innerWidth;
      redraw((chart) => ["vconcat", "layer"].some((key) => key in Object.values(data.figures[chart.dataset.figure].views)[0]));
    }, 200);
  });
  addEventListener("beforeprint", () => charts.filter((chart) => !drawn.has(chart)).forEach(draw));

  // ---- the table of all rows ----

  const PAGE_SIZE = 50;
  const MOST_PRINTED = 500;
  const { columns, rows } = data.table;
  const position = Object.fromEntries(columns.map((column, index) => [column.name, index]));
  const haystacks = rows.map((row) => row.filter((value) => typeof value === "string").join("\n").toLowerCase());
  const state = { search: "", filters: {}, sort: null, ascending: true, page: 0 };
  const visible = columns.filter((column) => !column.hidden).sort((a, b) => a.place - b.place);

  function chosenRows() {
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    const filters = Object.entries(state.filters).filter(([, value]) => value !== "");
    const chosen = [];
    rows.forEach((row, index) => {
      const fits = filters.every(([name, value]) => String(row[position[name]] ?? "") === value);
      if (fits && words.every((word) => haystacks[index].includes(word))) chosen.push(row);
    });
    if (state.sort) {
      const by = position[state.sort === "verdict" && "rank" in position ? "rank" : state.sort];
      const direction = state.ascending ? 1 : -1;
      chosen.sort((a, b) => compare(a[by], b[by], direction));
    }
    return chosen;
  }
  /** Missing values come last whichever way. */
  function compare(a, b, direction) {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return direction * order;
  }

  const place = $("#row-table");
  const status = make("p", { role: "status", class: "small" });
  const body = make("tbody");
  const headings = visible.map((column) => {
    const unit = column.unit ? make("span", { class: "unit" }, `, ${column.unit}`) : null;
    const button = make("button", { type: "button" }, column.heading, unit);
    const cell = make("th", { scope: "col", "aria-sort": "none", class: column.kind === "text" ? null : "num" }, button);
    button.addEventListener("click", () => {
      state.ascending = state.sort === column.name ? !state.ascending : true;
      state.sort = column.name;
      state.page = 0;
      show();
    });
    return cell;
  });
  const previous = make("button", { type: "button" }, "Previous");
  const next = make("button", { type: "button" }, "Next");
  const pageText = make("span");

  function rowElement(row) {
    const rank = row[position.rank] ?? null;
    const element = make("tr", { class: rank === null ? "unranked" : rank === 1 ? "fastest" : null });
    visible.forEach((column, index) => {
      const value = shown[column.kind](row[position[column.name]], column.decimals);
      const content = column.name === "verdict" ? make("span", { class: `badge${rank === null ? " failed" : ""}` }, words(value)) : value;
      element.append(index === 0 ? make("th", { scope: "row" }, content) : make("td", { class: column.kind === "text" ? column.name : "num" }, content));
    });
    return element;
  }

  function show(pageSize = PAGE_SIZE) {
    const chosen = chosenRows();
    const pages = Math.max(1, Math.ceil(chosen.length / pageSize));
    state.page = Math.min(state.page, pages - 1);
    const start = state.page * pageSize;
    const slice = chosen.slice(start, start + pageSize);
    body.replaceChildren(...slice.map(rowElement));
    if (!slice.length) body.append(make("tr", {}, make("td", { colspan: visible.length }, rows.length ? "No row fits: clear the filters." : "This sweep holds no rows.")));
    headings.forEach((cell, index) => {
      const sorted = visible[index].name === state.sort;
      cell.setAttribute("aria-sort", sorted ? (state.ascending ? "ascending" : "descending") : "none");
    });
    status.textContent = chosen.length === rows.length ? `${rows.length} rows` : `${chosen.length} of ${rows.length} rows`;
    pageText.textContent = `Page ${state.page + 1} of ${pages}`;
    previous.disabled = state.page === 0;
    next.disabled = state.page >= pages - 1;
    $(".pages", place).hidden = pages === 1;
  }

  function control(text, input, more = "") {
    return make("div", { class: `control ${more}` }, make("label", { for: input.id }, text), input);
  }

  function filterControl(column) {
    const values = [...new Set(rows.map((row) => String(row[position[column.name]] ?? "")))].filter(Boolean);
    if (values.length < 2) return null;
    values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const choice = make("select", { id: `filter-${column.name}` }, make("option", { value: "" }, "all"), ...values.map((value) => make("option", { value }, column.name === "outcome" ? words(value) : value)));
    choice.addEventListener("change", () => { state.filters[column.name] = choice.value; state.page = 0; show(); });
    return control(column.heading, choice);
  }

  function build() {
    const search = make("input", { type: "search", id: "search", autocomplete: "off", spellcheck: "false" });
    search.addEventListener("input", () => { state.search = search.value; state.page = 0; show(); });
    const clear = make("button", { type: "button" }, "Clear");
    clear.addEventListener("click", () => {
      Object.assign(state, { search: "", filters: {}, sort: null, ascending: true, page: 0 });
      search.value = "";
      $$("select", place).forEach((choice) => { choice.value = ""; });
      show();
    });
    previous.addEventListener("click", () => { state.page -= 1; show(); });
    next.addEventListener("click", () => { state.page += 1; show(); });
    const controls = make("div", { class: "controls" }, control("search", search, "search"), ...columns.filter((column) => column.filter).map(filterControl), clear);
    const table = make("table", { class: "rows" }, make("caption", { class: "visually-hidden" }, "All rows; the buttons in the headings sort"), make("thead", {}, make("tr", {}, ...headings)), body);
    const scroll = make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Table of all rows" }, table);
    const pages = make("div", { class: "pages" }, pageText, make("div", {}, previous, next));
    place.append(controls, status, scroll, pages);
    show();
    addEventListener("beforeprint", () => show(MOST_PRINTED));
    addEventListener("afterprint", () => show());
  }
  build();
})();
