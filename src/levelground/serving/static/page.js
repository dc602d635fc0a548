// The page: orders maps, shows their progress, and compares them on a canvas of tiles.
const words = JSON.parse(document.getElementById("words").textContent);
const by = (id) => document.getElementById(id);
const say = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const language = document.documentElement.lang;
const number = (value, digits) => value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (value) => value.toLocaleString(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const element = (name, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
};

async function ask(address, options = {}) {
  let answer;
  try { answer = await fetch(address, options); } catch { throw new Error(words.unreachable); }
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => ({ detail: `${answer.status}` }));
  if (!answer.ok) throw new Error(content.detail);
  return content;
}

// ---- the map: tiles of two layers on a canvas, the right one beyond the line ----
const TILE = 256;
const view = { map: null, grid: null, x: 0, y: 0, scale: 1, swipe: 0.5, opacity: 0.8, left: "", right: "" };
const tiles = new Map();
const MOST_TILES = 600;
const canvas = by("canvas");

function fetchTile(layer, z, x, y) {
  const address = `/v1/maps/${view.map.id}/tiles/${z}/${x}/${y}?layer=${encodeURIComponent(layer)}`;
  let tile = tiles.get(address);
  if (tile === undefined) {
    tile = { image: null };
    tiles.set(address, tile);
    if (tiles.size > MOST_TILES) tiles.delete(tiles.keys().next().value);
    const image = new Image();
    image.onload = () => { tile.image = image; draw(); };
    image.src = address;
  }
  return tile.image;
}

function drawLayer(context, layer, clip) {
  const { grid, scale } = view;
  const zoom = Math.max(grid.min_zoom, Math.min(grid.max_zoom, grid.max_zoom + Math.ceil(Math.log2(scale) - 0.001)));
  const size = TILE * 2 ** (grid.max_zoom - zoom); // side of a tile in pixels of the largest zoom
  const [left, top, right, bottom] = grid.bounds;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const from = (origin, shown, low) => Math.floor(Math.max(low, origin - shown / 2 / scale) / size);
  const to = (origin, shown, high) => Math.ceil(Math.min(high, origin + shown / 2 / scale) / size);
  context.save();
  context.beginPath();
  context.rect(clip[0], 0, clip[1] - clip[0], height);
  context.clip();
  for (let y = from(view.y, height, top); y < to(view.y, height, bottom); y++) {
    for (let x = from(view.x, width, left); x < to(view.x, width, right); x++) {
      const image = fetchTile(layer, zoom, x, y);
      if (!image) continue;
      const [px, py] = [(x * size - view.x) * scale + width / 2, (y * size - view.y) * scale + height / 2];
      context.drawImage(image, Math.round(px), Math.round(py), Math.round(px + size * scale) - Math.round(px), Math.round(py + size * scale) - Math.round(py));
    }
  }
  context.restore();
}

function draw() {
  if (!view.grid || canvas.clientWidth === 0) return;
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = view.scale < 1;
  const line = Math.round(view.swipe * width);
  drawLayer(context, "image", [0, width]);
  for (const [layer, clip] of [[view.left, [0, line]], [view.right, [line, width]]]) {
    if (!layer || layer === "image") continue;
    context.globalAlpha = view.opacity;
    drawLayer(context, layer, clip);
    context.globalAlpha = 1;
  }
  by("line").style.left = `${line - 1}px`;
}

function showWhole() {
  const [left, top, right, bottom] = view.grid.bounds;
  view.x = (left + right) / 2;
  view.y = (top + bottom) / 2;
  view.scale = Math.min(canvas.clientWidth / (right - left), canvas.clientHeight / (bottom - top)) || 1;
  draw();
}

function zoomBy(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  if (!view.grid) return;
  const before = view.scale;
  view.scale = Math.min(16, Math.max(before * factor, 2 ** (view.grid.min_zoom - view.grid.max_zoom - 2)));
  view.x += (x - canvas.clientWidth / 2) * (1 / before - 1 / view.scale);
  view.y += (y - canvas.clientHeight / 2) * (1 / before - 1 / view.scale);
  draw();
}

function moveBy(x, y) {
  view.x -= x / view.scale;
  view.y -= y / view.scale;
  draw();
}

const touches = new Map();
let pinch = 0, dragsLine = false;
const map = by("map");
map.addEventListener("pointerdown", (event) => {
  if (event.target.closest("button")) return;
  const place = event.clientX - canvas.getBoundingClientRect().left;
  dragsLine = touches.size === 0 && Math.abs(place - view.swipe * canvas.clientWidth) < 14;
  touches.set(event.pointerId, event);
  map.setPointerCapture(event.pointerId);
});
map.addEventListener("pointermove", (event) => {
  const before = touches.get(event.pointerId);
  if (!before) return;
  touches.set(event.pointerId, event);
  if (dragsLine) {
    view.swipe = Math.min(1, Math.max(0, (event.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth));
    by("swipe").value = Math.round(view.swipe * 1000);
    draw();
  } else if (touches.size === 2) {
    const [one, other] = [...touches.values()];
    const apart = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const box = canvas.getBoundingClientRect();
    if (pinch) zoomBy(apart / pinch, (one.clientX + other.clientX) / 2 - box.left, (one.clientY + other.clientY) / 2 - box.top);
    pinch = apart;
  } else {
    moveBy(event.clientX - before.clientX, event.clientY - before.clientY);
  }
});
for (const name of ["pointerup", "pointercancel"]) map.addEventListener(name, (event) => { touches.delete(event.pointerId); pinch = 0; dragsLine = false; });
map.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  zoomBy(2 ** (-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
map.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
  if (moves[event.key]) moveBy(...moves[event.key]);
  else if (event.key === "+" || event.key === "=") zoomBy(1.5);
  else if (event.key === "-") zoomBy(1 / 1.5);
  else if (event.key === "0") showWhole();
  else return;
  event.preventDefault();
});
by("in").onclick = () => zoomBy(1.5);
by("out").onclick = () => zoomBy(1 / 1.5);
by("whole").onclick = showWhole;
by("swipe").oninput = (event) => { view.swipe = event.target.value / 1000; draw(); };
by("opacity").oninput = (event) => { view.opacity = event.target.value / 100; draw(); };
by("left").onchange = (event) => { view.left = event.target.value; draw(); };
by("right").onchange = (event) => { view.right = event.target.value; draw(); };
new ResizeObserver(draw).observe(map);

// ---- one map: its state, layers, areas and files ----
const layerName = (layer) => ({ image: words.image, disagreement: words.disagreement })[layer] ?? layer;

function fillLayers(shown) {
  for (const [id, at] of [["left", 1], ["right", 2]]) {
    const chosen = view[id] && shown.layers.includes(view[id]) && shown.layers.length > 1 && view[id] !== "image" ? view[id] : null;
    by(id).replaceChildren(...shown.layers.map((layer) => element("option", { value: layer, textContent: layerName(layer) })));
    view[id] = chosen ?? shown.layers[Math.min(at, shown.models.length)] ?? shown.layers[0] ?? "";
    by(id).value = view[id];
  }
}

const duration = (seconds) => (seconds <= 90 ? say(words.seconds, { n: Math.ceil(seconds) }) : say(words.minutes, { n: Math.ceil(seconds / 60) }));

function showState(shown) {
  const busy = shown.status === "queued" || shown.status === "running";
  by("progress").hidden = shown.status === "done";
  by("bar").hidden = !busy;
  by("bar").value = shown.progress;
  const left = shown.seconds_left === null ? "" : `, ${say(words.left, { time: duration(shown.seconds_left) })}`;
  by("state").textContent = shown.status === "failed" ? `${words.failed}: ${shown.error}` : `${words[shown.status]} ${percent(shown.progress)}${left}`;
}

// Names of classes in the language of the page, where a legend has them.
const russian = new Map();
const className = (name) => (language === "ru" ? russian.get(name) ?? name : name);

function fillAreas(areas) {
  const ground = areas.basis !== "none";
  for (const one of areas.models) for (const entry of one.classes) if (entry.name_ru) russian.set(entry.name, entry.name_ru);
  const [first, ...others] = areas.models;
  const unit = ground ? words.hectares : words.share;
  const head = [words.class, ...areas.models.map((one) => `${one.name}, ${unit}`)];
  const difference = ground ? words.difference : words.difference_share;
  head.push(...others.map((one) => `${one.name}: ${say(difference, { model: first.name })}`));
  const names = [...new Set(areas.models.flatMap((one) => one.classes.map((entry) => entry.name)))];
  const rows = names.map((name) => {
    const of = (one) => one.classes.find((entry) => entry.name === name);
    const value = (one) => (of(one) ? (ground ? of(one).hectares : of(one).share) : 0);
    const colour = areas.models.map(of).find(Boolean).colour;
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colour;
    const cells = areas.models.map((one) => element("td", { textContent: ground ? number(value(one), 2) : percent(value(one)) }));
    const signed = (one) => {
      const by_ = (value(one) - value(first)) * (ground ? 1 : 100), digits = ground ? 2 : 1;
      return `${by_ > 0 ? "+" : by_ < 0 ? "−" : ""}${number(Math.abs(by_), digits)}`;
    };
    cells.push(...others.map((one) => element("td", { textContent: signed(one) })));
    return element("tr", {}, element("td", {}, swatch, className(name)), ...cells);
  });
  by("areas").replaceChildren(
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col", textContent: text })))),
    element("tbody", {}, ...rows),
  );
  const { share, hectares } = areas.disagreement;
  by("disagreement").hidden = areas.models.length < 2;
  by("disagreement").textContent = hectares === null ? say(words.disagree_share, { share: percent(share) }) : say(words.disagree_on, { share: percent(share), hectares: number(hectares, 2) });
  by("notes").textContent = areas.notes.join(" ");
}

function fillFiles(shown) {
  by("files").replaceChildren(...shown.models.map((model) => element("li", {}, model, ...["map", "polygons", "areas"].map((kind) =>
    element("a", { href: `/v1/maps/${shown.id}/files/${encodeURIComponent(model)}/${kind}`, textContent: words[`${kind}_file`], download: "" })))));
}

async function show(shown) {
  const other = view.map?.id !== shown.id;
  const before = other ? null : view.map;
  view.map = shown;
  by("shown").hidden = false;
  by("shown-name").textContent = `${shown.raster}: ${shown.models.join(", ")}`;
  showState(shown);
  by("viewer").hidden = shown.tiles === null;
  view.grid = shown.tiles;
  if (other || String(before.layers) !== String(shown.layers)) {
    if (other) { view.left = view.right = ""; tiles.clear(); }
    fillLayers(shown);
    if (shown.tiles && (other || before.tiles === null)) requestAnimationFrame(showWhole);
    draw();
  }
  if (other) by("results").hidden = true;
  if (shown.status === "done" && (other || before.status !== "done")) {
    fillAreas(await ask(`/v1/maps/${shown.id}/areas`));
    fillFiles(shown);
    by("results").hidden = false;
  }
}

by("remove").onclick = async () => {
  if (!window.confirm(say(words.remove_sure, { raster: view.map.raster }))) return;
  await ask(`/v1/maps/${view.map.id}`, { method: "DELETE" });
  view.map = view.grid = null;
  by("shown").hidden = true;
  await refresh();
};

// ---- the list of maps, looked at every second while one is in progress ----
let timer = 0;
async function refresh() {
  clearTimeout(timer);
  try {
    const maps = await ask("/v1/maps");
    by("no-maps").hidden = maps.length > 0;
    const focused = document.activeElement?.dataset?.id;
    by("maps").replaceChildren(...maps.map((one) => {
      const button = element("button", { type: "button" }, `${one.raster}`, element("small", { textContent: `${one.models.join(", ")}. ${words[one.status]}` }));
      button.dataset.id = one.id;
      button.setAttribute("aria-current", String(one.id === view.map?.id));
      button.onclick = () => show(one).then(refresh);
      return element("li", {}, button);
    }));
    if (focused) document.querySelector(`[data-id="${focused}"]`)?.focus();
    const shown = maps.find((one) => one.id === view.map?.id);
    if (shown) await show(shown);
    if (maps.some((one) => one.status === "queued" || one.status === "running")) timer = setTimeout(refresh, 1000);
  } catch (error) {
    by("problem").textContent = error.message;
    timer = setTimeout(refresh, 5000);
  }
}

// ---- the form ----
function upload(form) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much is sent
    request.open("POST", "/v1/maps");
    request.responseType = "json";
    request.upload.onprogress = (event) => { if (event.lengthComputable) by("problem").textContent = say(words.uploading, { share: percent(event.loaded / event.total) }); };
    request.onload = () => (request.status < 300 ? resolve(request.response) : reject(new Error(request.response?.detail ?? `${request.status}`)));
    request.onerror = () => reject(new Error(words.unreachable));
    request.send(form);
  });
}

by("new").onsubmit = async (event) => {
  event.preventDefault();
  const models = [...document.querySelectorAll("#models input:checked")].map((box) => box.value);
  const [file, raster] = [by("file").files[0], by("raster").value];
  if (models.length < 1 || models.length > 4) { by("problem").textContent = words.too_many; return; }
  if (!file && !raster) { by("problem").textContent = words.no_raster; return; }
  const form = new FormData();
  for (const model of models) form.append("models", model);
  if (file) form.append("file", file); else form.append("raster", raster);
  by("problem").textContent = "";
  const button = event.target.querySelector("button");
  button.disabled = true;
  try {
    const made = await upload(form);
    by("problem").textContent = "";
    await show(made);
    await refresh();
  } catch (error) {
    by("problem").textContent = error.message;
  } finally {
    button.disabled = false;
  }
};
by("file").onchange = () => { if (by("file").files.length) by("raster").value = ""; };
by("raster").onchange = () => { if (by("raster").value) by("file").value = ""; };

// ---- settings and tabs ----
const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* a private window */ } };
const setTheme = (theme) => { document.documentElement.style.colorScheme = theme; by("theme").value = theme; };
setTheme(["light dark", "light", "dark"].includes(kept("theme")) ? kept("theme") : "light dark");
by("theme").onchange = (event) => { setTheme(event.target.value); keep("theme", event.target.value); };
if (by("language")) by("language").onchange = (event) => { const to = new URL(location); to.searchParams.set("lang", event.target.value); location.assign(to); };

const tabs = [...document.querySelectorAll("[role=tab]")];
function choose(tab) {
  for (const one of tabs) { one.setAttribute("aria-selected", String(one === tab)); one.tabIndex = one === tab ? 0 : -1; }
  const page = tab.dataset.page;
  by("maps-panel").hidden = Boolean(page);
  by("report-panel").hidden = !page;
  if (page) { by("report-panel").setAttribute("aria-labelledby", tab.id); by("report").src = page; } else draw();
}
for (const tab of tabs) {
  tab.onclick = () => choose(tab);
  tab.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    next.focus();
    choose(next);
  };
}

// ---- start ----
try {
  const [models, rasters] = await Promise.all([ask("/v1/models"), ask("/v1/rasters")]);
  for (const one of models) for (const entry of one.classes) if (entry.name_ru) russian.set(entry.name, entry.name_ru);
  by("models").append(...models.map((one, at) => element("label", {}, element("input", { type: "checkbox", value: one.name, checked: at < 2 }), one.name)));
  by("raster").append(...rasters.map((one) => element("option", { value: one.name, textContent: one.name })));
  by("raster").hidden = by("raster-label").hidden = rasters.length === 0;
} catch (error) {
  by("problem").textContent = error.message;
}
await refresh();
