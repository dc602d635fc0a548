"use strict";
// Adds to a page that reads without it: the slider over scenes, class names under the pointer, a remembered theme.
(() => {
  const byId = (id) => document.getElementById(id);

  // Theme: the switch works without script; here it is only remembered, where the browser allows.
  for (const input of document.querySelectorAll(".theme input")) {
    try {
      if (localStorage.getItem("levelground-theme") === input.id) input.checked = true;
      input.addEventListener("change", () => localStorage.setItem("levelground-theme", input.id));
    } catch { /* storage is closed to this page */ }
  }

  // A link from a chart opens its scene, here and in the viewer.
  const openLinked = () => {
    const scene = byId(location.hash.slice(1));
    if (!scene?.matches("details.scene")) return;
    if (scene.hidden) { // left out by the filter
      byId("v-class").value = "";
      byId("v-class").dispatchEvent(new Event("change"));
    }
    scene.open = true;
    const box = byId("v-scene");
    if (box) {
      box.value = scene.dataset.index;
      box.dispatchEvent(new Event("change"));
    }
    scene.scrollIntoView();
  };
  addEventListener("hashchange", openLinked);
  openLinked();

  const data = JSON.parse(byId("data").textContent);

  // Tables that are wider than their frame say that they scroll.
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const scrolls = target.scrollWidth > target.clientWidth + 8; // less hides no figure
      const note = target.previousElementSibling;
      if (note?.matches(".scroll-note")) note.hidden = !scrolls;
      else if (scrolls) {
        target.before(Object.assign(document.createElement("p"), { className: "scroll-note", textContent: data.words.scroll }));
      }
    }
  });
  for (const frame of document.querySelectorAll(".wide")) watch.observe(frame);

  // On paper nothing can be opened: what is folded away is printed, scenes only where they are not too many.
  const closed = new Set();
  addEventListener("beforeprint", () => {
    const many = document.querySelectorAll("details.scene").length > 40;
    for (const box of document.querySelectorAll(`details:not([open])${many ? ":not(.scene)" : ""}`)) {
      closed.add(box);
      box.open = true;
    }
  });
  addEventListener("afterprint", () => {
    for (const box of closed) box.open = false;
    closed.clear();
  });

  const viewer = byId("viewer");
  if (!viewer) return;
  const scenes = [...document.querySelectorAll("details.scene")];
  const NONE = 255;
  const [stage, under, over, sweep] = ["v-stage", "v-under", "v-over", "v-sweep"].map(byId);
  const [sceneBox, leftBox, rightBox, cover] = ["v-scene", "v-left", "v-right", "v-cover"].map(byId);
  const reading = byId("v-reading");
  const classOf = new Map(data.classes.map((c, k) => [(c.colour[0] << 16) | (c.colour[1] << 8) | c.colour[2], k]));
  let layers = new Map(); // of the scene shown: name -> {image, classes}
  let shown = -1;
  let highlighted = null;
  let point = [0.5, 0.5]; // what is read, as shares of width and height
  let turn = 0;

  // Some browsers add noise to pixels read back, so a colour that is no class is taken for the nearest one.
  const nearestClass = (r, g, b) => {
    let best = NONE, least = Infinity;
    data.classes.forEach((c, k) => {
      const far = (c.colour[0] - r) ** 2 + (c.colour[1] - g) ** 2 + (c.colour[2] - b) ** 2;
      if (far < least) [best, least] = [k, far];
    });
    return best;
  };

  const newCanvas = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

  const readClasses = (image) => {
    const canvas = newCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const classes = new Uint8Array(pixels.length / 4);
    for (let i = 0, j = 0; i < pixels.length; i += 4, j++) {
      if (pixels[i + 3] < 128) { classes[j] = NONE; continue; }
      const found = classOf.get((pixels[i] << 16) | (pixels[i + 1] << 8) | pixels[i + 2]);
      classes[j] = found === undefined ? nearestClass(pixels[i], pixels[i + 1], pixels[i + 2]) : found;
    }
    return classes;
  };

  const pictureOf = (name) => scenes[shown].querySelector(`img[data-layer="${name}"]`);

  const load = async (name) => {
    const source = name.startsWith("err") ? `run${name.slice(3)}` : name;
    if (layers.has(source)) return layers.get(source);
    const image = pictureOf(source);
    if (!image) return null;
    await image.decode();
    const layer = { image, classes: source === "image" ? null : readClasses(image) };
    layers.set(source, layer);
    return layer;
  };

  const isWrong = (truth, pred, j) => truth[j] !== NONE && data.classes[truth[j]].counted && truth[j] !== pred[j];

  // One layer on one canvas: the photograph, and over it class colours or errors.
  const paint = (canvas, name, photo, truth, layer) => {
    canvas.width = photo.image.naturalWidth;
    canvas.height = photo.image.naturalHeight;
    canvas.classList.toggle("pixels", name !== "image");
    const context = canvas.getContext("2d");
    const errors = name.startsWith("err");
    context.drawImage(photo.image, 0, 0);
    if (errors) { // grey and dim, so that errors stand out
      for (const [operation, colour] of [["saturation", "#808080"], ["source-over", "rgb(0 0 0 / .45)"]]) {
        context.globalCompositeOperation = operation;
        context.fillStyle = colour;
        context.fillRect(0, 0, canvas.width, canvas.height);
      }
    }
    if (name === "image" || !layer) return;
    const veil = context.createImageData(canvas.width, canvas.height);
    const alpha = Math.round(2.55 * cover.value);
    layer.classes.forEach((k, j) => {
      if (k === NONE) return;
      let colour = data.classes[k].colour;
      let strength = highlighted === null || highlighted === k ? alpha : 0.12 * alpha;
      if (errors) {
        colour = [255, 138, 61];
        const wanted = highlighted === null || highlighted === k || highlighted === truth.classes[j];
        strength = isWrong(truth.classes, layer.classes, j) && wanted ? 255 : 0;
      }
      veil.data.set([...colour, strength], 4 * j);
    });
    const sheet = newCanvas(canvas.width, canvas.height);
    sheet.getContext("2d").putImageData(veil, 0, 0);
    context.drawImage(sheet, 0, 0);
  };

  const draw = async () => {
    const mine = ++turn;
    const names = [leftBox.value, rightBox.value];
    const [photo, truth, left, right] = await Promise.all(["image", "truth", ...names].map(load));
    if (mine !== turn) return; // a later choice overtook this one
    paint(over, names[0], photo, truth, left);
    paint(under, names[1], photo, truth, right);
    stage.style.setProperty("--aspect", over.width / over.height);
    byId("v-left-name").textContent = leftBox.selectedOptions[0].textContent;
    byId("v-right-name").textContent = rightBox.selectedOptions[0].textContent;
    byId("v-wrong").hidden = !names.some((name) => name.startsWith("err"));
    read();
  };

  const item = (text, k) => {
    const entry = document.createElement("li");
    if (k !== undefined && k !== NONE) {
      const swatch = document.createElement("span");
      swatch.className = `swatch c${k}`;
      entry.append(swatch);
    }
    entry.append(text);
    return entry;
  };

  // The class names under the reading point: of the truth and of both layers.
  const read = () => {
    const photo = layers.get("image"), truth = layers.get("truth");
    if (!photo || !truth) return;
    const [width, height] = [photo.image.naturalWidth, photo.image.naturalHeight];
    const column = Math.min(width - 1, Math.floor(point[0] * width));
    const row = Math.min(height - 1, Math.floor(point[1] * height));
    const j = row * width + column;
    const say = (k) => (k === NONE ? data.words.no_data : data.classes[k].name);
    const items = [item(data.words.place.replace("{row}", row).replace("{column}", column)), item(`${data.words.truth}: ${say(truth.classes[j])}`, truth.classes[j])];
    for (const name of new Set([leftBox.value, rightBox.value])) {
      const layer = layers.get(name.startsWith("err") ? `run${name.slice(3)}` : name);
      if (!layer || !layer.classes || name === "truth") continue;
      const verdict = isWrong(truth.classes, layer.classes, j) ? ` ✗ ${data.words.wrong}` : truth.classes[j] === layer.classes[j] ? " ✓" : "";
      items.push(item(`${data.runs[Number(name.slice(3))]}: ${say(layer.classes[j])}${verdict}`, layer.classes[j]));
    }
    reading.replaceChildren(...items);
    sweep.setAttribute("aria-valuetext", `${data.words.left.replace("{share}", Math.round(sweep.value / 10))} ${items.map((li) => li.textContent).join("; ")}`);
    stage.style.setProperty("--px", `${100 * point[0]}%`);
    stage.style.setProperty("--py", `${100 * point[1]}%`);
  };

  const move = () => stage.style.setProperty("--x", `${sweep.value / 10}%`);

  const show = (index) => {
    shown = index;
    layers = new Map();
    sceneBox.value = String(shown);
    for (const box of [leftBox, rightBox]) {
      for (const option of box.options) option.disabled = !pictureOf(option.value);
      if (box.selectedOptions[0].disabled) box.value = "truth";
    }
    draw();
  };

  sweep.addEventListener("input", () => { move(); });
  sweep.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -0.02, ArrowDown: 0.02 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      point = [sweep.value / 1000, Math.min(0.999, Math.max(0, point[1] + step))];
      read();
    } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      const far = event.shiftKey ? 100 : 20;
      sweep.value = Number(sweep.value) + (event.key === "ArrowLeft" ? -far : far);
      point = [Math.min(0.999, sweep.value / 1000), point[1]];
      move();
      read();
    }
  });
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    const inside = (value, size) => Math.min(0.999, Math.max(0, value / size));
    point = [inside(event.clientX - box.left, box.width), inside(event.clientY - box.top, box.height)];
    read();
  };
  stage.addEventListener("pointermove", follow);
  stage.addEventListener("pointerdown", follow);

  // The order of scenes, and which of them are listed: those with a class.
  const [orderBox, classBox, aheadBox, behindBox] = ["v-order", "v-class", "v-ahead", "v-behind"].map(byId);
  const ENDS = { worst: 1, unlike: -1, ahead: -1 }; // smallest or largest first
  let order = scenes.map((_, index) => index);

  const number = (value, digits) =>
    value.toLocaleString(document.documentElement.lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });

  const valueOf = (scene) => {
    const scores = scene.scores.filter((score) => score !== null);
    if (orderBox.value === "worst") return scores.length ? scores.reduce((a, b) => a + b) / scores.length : null;
    if (orderBox.value === "unlike") return scene.unlike;
    const [a, b] = [scene.scores[aheadBox.value], scene.scores[behindBox.value]];
    return a === null || b === null ? null : a - b;
  };

  const textOf = (value) => {
    if (value === null) return "–";
    if (orderBox.value === "unlike") return data.words.unlike_on.replace("{share}", number(100 * value, 1));
    if (orderBox.value === "worst") return number(value, 3);
    return `${value < 0 ? "−" : "+"}${number(Math.abs(value), 3)}`;
  };

  const arrange = () => {
    const end = ENDS[orderBox.value];
    const values = data.scenes.map((scene) => (end ? valueOf(scene) : 0));
    order = data.scenes.map((_, index) => index)
      .filter((index) => classBox.value === "" || data.scenes[index].classes.includes(Number(classBox.value)))
      .sort((a, b) => (values[a] === null) - (values[b] === null) || (end ?? 0) * (values[a] - values[b]) || a - b);
    for (const box of [aheadBox, behindBox]) if (box) box.parentElement.hidden = orderBox.value !== "ahead";
    scenes.forEach((scene, index) => {
      scene.hidden = !order.includes(index);
      scene.querySelector(".sorted-by").textContent = end ? textOf(values[index]) : "";
    });
    scenes[0].parentElement.append(...order.map((index) => scenes[index]));
    sceneBox.replaceChildren(...order.map((index) => new Option(data.scenes[index].id, index)));
    const count = data.words.count.replace("{shown}", order.length).replace("{all}", scenes.length);
    byId("v-count").textContent = order.length < scenes.length ? count : "";
    show(order[0]);
  };

  for (const option of [...classBox.options].slice(1)) {
    if (!data.scenes.some((scene) => scene.classes.includes(Number(option.value)))) option.remove();
  }
  for (const box of [orderBox, classBox, aheadBox, behindBox]) box?.addEventListener("change", arrange);

  const step = (by) => show(order[(order.indexOf(shown) + by + order.length) % order.length]);
  sceneBox.addEventListener("change", () => show(Number(sceneBox.value)));
  byId("v-back").addEventListener("click", () => step(-1));
  byId("v-next").addEventListener("click", () => step(1));
  for (const box of [leftBox, rightBox, cover]) box.addEventListener("input", draw);
  byId("v-swap").addEventListener("click", () => {
    [leftBox.value, rightBox.value] = [rightBox.value, leftBox.value];
    draw();
  });
  for (const button of document.querySelectorAll(".class-keys button")) {
    button.addEventListener("click", () => {
      const k = Number(button.dataset.class);
      highlighted = highlighted === k ? null : k;
      for (const other of document.querySelectorAll(".class-keys button")) {
        other.setAttribute("aria-pressed", String(Number(other.dataset.class) === highlighted));
      }
      draw();
    });
  }
  for (const scene of scenes) {
    scene.addEventListener("click", (event) => {
      const layer = event.target.dataset?.layer;
      if (!layer) return;
      leftBox.value = layer;
      if (rightBox.value === layer) rightBox.value = layer === "image" ? "truth" : "image";
      show(Number(scene.dataset.index));
      viewer.scrollIntoView({ block: "start" });
    });
  }

  viewer.hidden = false;
  document.body.classList.add("live");
  leftBox.value = data.runs.length && scenes[0].querySelector('img[data-layer="run0"]') ? "run0" : "truth";
  rightBox.value = "image";
  move();
  show(0);
})();
