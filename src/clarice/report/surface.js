// The map's surface: meshed here (surface nets), drawn here (a depth buffer in plain memory), so that it needs
// neither a graphics card nor a library and looks the same everywhere.
(function () {
  "use strict";
  const figure = document.getElementById("surface");
  if (!figure) return;
  const settings = JSON.parse(document.getElementById("surface-settings").textContent);
  const bytes = Uint8Array.from(atob(document.getElementById("surface-values").textContent.trim()), (c) => c.charCodeAt(0));
  const n = settings.edge, n2 = n * n;
  const toByte = (level) => (255 * (level - settings.low)) / (settings.high - settings.low);
  const canvas = figure.querySelector("canvas");
  const slider = figure.querySelector("input[type=range]");
  const reading = figure.querySelector("output");
  const clamp = (v, a, b) => Math.min(Math.max(v, a), b);

  function sample(field, x, y, z) {
    x = clamp(x, 0, n - 1.001); y = clamp(y, 0, n - 1.001); z = clamp(z, 0, n - 1.001);
    const i = x | 0, j = y | 0, k = z | 0, u = x - i, v = y - j, w = z - k, o = i + j * n + k * n2;
    const a = field[o] + (field[o + 1] - field[o]) * u, b = field[o + n] + (field[o + n + 1] - field[o + n]) * u;
    const p = o + n2;
    const c = field[p] + (field[p + 1] - field[p]) * u, d = field[p + n] + (field[p + n + 1] - field[p + n]) * u;
    const e = a + (b - a) * v, f = c + (d - c) * v;
    return e + (f - e) * w;
  }

  // A running mean along each axis in turn; what it leaves around a point tells how deep in a groove the point lies.
  function blurred(source, radius) {
    let from = Float32Array.from(source);
    for (const step of [1, n, n2]) {
      const into = new Float32Array(from.length);
      for (let o = 0; o < from.length; o++) {
        const at = Math.floor(o / step) % n;
        let sum = 0;
        for (let r = -radius; r <= radius; r++) sum += from[o + (clamp(at + r, 0, n - 1) - at) * step];
        into[o] = sum / (2 * radius + 1);
      }
      from = into;
    }
    return from;
  }

  const CORNERS = [0, 1, n, n + 1, n2, n2 + 1, n2 + n, n2 + n + 1];
  const EDGES = [[0, 1], [2, 3], [4, 5], [6, 7], [0, 2], [1, 3], [4, 6], [5, 7], [0, 4], [1, 5], [2, 6], [3, 7]];
  const soft = blurred(bytes, 3);

  function mesh(level) {
    const cell = new Int32Array(n * n2).fill(-1), places = [], triangles = [];
    for (let k = 0; k < n - 1; k++) for (let j = 0; j < n - 1; j++) for (let i = 0; i < n - 1; i++) {
      const o = i + j * n + k * n2;
      let inside = 0;
      for (let c = 0; c < 8; c++) if (bytes[o + CORNERS[c]] >= level) inside |= 1 << c;
      if (inside === 0 || inside === 255) continue;
      let x = 0, y = 0, z = 0, crossings = 0;
      for (const [p, q] of EDGES) {
        if (((inside >> p) & 1) === ((inside >> q) & 1)) continue;
        const a = bytes[o + CORNERS[p]], t = (level - a) / (bytes[o + CORNERS[q]] - a);
        x += (p & 1) + t * ((q & 1) - (p & 1));
        y += ((p >> 1) & 1) + t * (((q >> 1) & 1) - ((p >> 1) & 1));
        z += (p >> 2) + t * ((q >> 2) - (p >> 2));
        crossings++;
      }
      cell[o] = places.length / 3;
      places.push(i + x / crossings, j + y / crossings, k + z / crossings);
    }
    const quad = (a, b, c, d, turned) => {
      if (a < 0 || b < 0 || c < 0 || d < 0) return;
      if (turned) triangles.push(a, c, b, a, d, c); else triangles.push(a, b, c, a, c, d);
    };
    for (let k = 1; k < n - 1; k++) for (let j = 1; j < n - 1; j++) for (let i = 1; i < n - 1; i++) {
      const o = i + j * n + k * n2, here = bytes[o] >= level;
      if (here !== bytes[o + 1] >= level) quad(cell[o - n - n2], cell[o - n2], cell[o], cell[o - n], !here);
      if (here !== bytes[o + n] >= level) quad(cell[o - 1 - n2], cell[o - 1], cell[o], cell[o - n2], !here);
      if (here !== bytes[o + n2] >= level) quad(cell[o - 1 - n], cell[o - n], cell[o], cell[o - 1], !here);
    }
    const count = places.length / 3, normals = new Float32Array(3 * count), open = new Float32Array(count);
    for (let v = 0; v < count; v++) {
      const x = places[3 * v], y = places[3 * v + 1], z = places[3 * v + 2];
      let gx = sample(bytes, x - 1, y, z) - sample(bytes, x + 1, y, z);
      let gy = sample(bytes, x, y - 1, z) - sample(bytes, x, y + 1, z);
      let gz = sample(bytes, x, y, z - 1) - sample(bytes, x, y, z + 1);
      const length = Math.hypot(gx, gy, gz) || 1;
      gx /= length; gy /= length; gz /= length;
      normals.set([gx, gy, gz], 3 * v);
      const around = sample(soft, x + 2.5 * gx, y + 2.5 * gy, z + 2.5 * gz) / level;
      open[v] = clamp(1.28 - 0.75 * around, 0.35, 1);
    }
    return { places: Float32Array.from(places), normals, open, triangles: Uint32Array.from(triangles), count };
  }

  let shape = null, turn = null, zoomed = 1, mirrored = false, waiting = false, moving = false;
  // Looking slightly down and aside shows more of a shape than any axis does.
  const start = () => multiply(rotation(0.42, 0), rotation(0, 0.55));
  function rotation(aboutX, aboutY) {
    const a = Math.cos(aboutX), b = Math.sin(aboutX), c = Math.cos(aboutY), d = Math.sin(aboutY);
    return [c, 0, d, b * d, a, -b * c, -a * d, b, a * c];
  }
  function multiply(p, q) {
    const r = new Array(9);
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++)
      r[3 * i + j] = p[3 * i] * q[j] + p[3 * i + 1] * q[3 + j] + p[3 * i + 2] * q[6 + j];
    return r;
  }

  function colours() {
    const style = getComputedStyle(figure);
    const parse = (name) => {
      const hex = style.getPropertyValue(name).trim();
      return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    };
    return { low: parse("--surface-low"), mid: parse("--surface-mid"), high: parse("--surface-high"), back: parse("--panel") };
  }

  function draw() {
    waiting = false;
    if (!shape) return;
    const ratio = moving ? 1 : Math.min(window.devicePixelRatio || 1, 2);
    const size = Math.round(canvas.clientWidth * ratio);
    if (size < 2) return;
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d"), image = context.createImageData(size, size);
    const depth = new Float32Array(size * size).fill(-1e9), light = new Float32Array(size * size);
    const scale = (size / (n * 1.12)) * zoomed, half = size / 2, centre = (n - 1) / 2, flip = mirrored ? -1 : 1;
    const { places, normals, open, triangles, count } = shape;
    const px = new Float32Array(count), py = new Float32Array(count), pz = new Float32Array(count), shade = new Float32Array(count);
    for (let v = 0; v < count; v++) {
      const x = (places[3 * v] - centre) * flip, y = places[3 * v + 1] - centre, z = places[3 * v + 2] - centre;
      px[v] = half + scale * (turn[0] * x + turn[1] * y + turn[2] * z);
      py[v] = half - scale * (turn[3] * x + turn[4] * y + turn[5] * z);
      pz[v] = turn[6] * x + turn[7] * y + turn[8] * z;
      const a = normals[3 * v] * flip, b = normals[3 * v + 1], c = normals[3 * v + 2];
      const nx = turn[0] * a + turn[1] * b + turn[2] * c, ny = turn[3] * a + turn[4] * b + turn[5] * c;
      const nz = turn[6] * a + turn[7] * b + turn[8] * c;
      const key = Math.max(0, -0.42 * nx + 0.55 * ny + 0.72 * nz), fill = Math.max(0, 0.6 * nx - 0.2 * ny + 0.5 * nz);
      const gloss = Math.pow(Math.max(0, -0.23 * nx + 0.3 * ny + 0.93 * nz), 22);
      shade[v] = (0.2 + 0.62 * key + 0.16 * fill) * open[v] + 0.1 * gloss;
    }
    for (let t = 0; t < triangles.length; t += 3) fillTriangle(triangles[t], triangles[t + 1], triangles[t + 2]);
    function fillTriangle(a, b, c) {
      let area = (px[b] - px[a]) * (py[c] - py[a]) - (px[c] - px[a]) * (py[b] - py[a]);
      if (area > 0) { const swap = b; b = c; c = swap; } else area = -area;
      if (area < 1e-6) return;
      const x0 = px[a], y0 = py[a], x1 = px[b], y1 = py[b], x2 = px[c], y2 = py[c];
      const left = Math.max(0, Math.ceil(Math.min(x0, x1, x2) - 0.5)), right = Math.min(size - 1, Math.floor(Math.max(x0, x1, x2) + 0.5));
      const top = Math.max(0, Math.ceil(Math.min(y0, y1, y2) - 0.5)), foot = Math.min(size - 1, Math.floor(Math.max(y0, y1, y2) + 0.5));
      for (let y = top; y <= foot; y++) for (let x = left; x <= right; x++) {
        const wa = ((y1 - y) * (x2 - x) - (x1 - x) * (y2 - y)) / area, wb = ((y2 - y) * (x0 - x) - (x2 - x) * (y0 - y)) / area;
        const wc = 1 - wa - wb;
        if (wa < -1e-4 || wb < -1e-4 || wc < -1e-4) continue;
        const z = wa * pz[a] + wb * pz[b] + wc * pz[c], o = y * size + x;
        if (z <= depth[o]) continue;
        depth[o] = z;
        light[o] = wa * shade[a] + wb * shade[b] + wc * shade[c];
      }
    }
    paint(image, size, depth, light);
    context.putImageData(image, 0, 0);
  }

  function paint(image, size, depth, light) {
    const { low, mid, high, back } = colours(), data = image.data;
    for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
      const o = y * size + x;
      if (depth[o] < -1e8) continue;
      const s = clamp(light[o], 0, 1), from = s < 0.55 ? low : mid, into = s < 0.55 ? mid : high;
      const part = s < 0.55 ? s / 0.55 : (s - 0.55) / 0.45;
      const fog = 0.3 * clamp(0.5 - depth[o] / n, 0, 1);
      // A drop in depth next to a pixel is an outline; it parts overlapping domains.
      let drop = 0;
      if (x > 0) drop = Math.max(drop, depth[o] - depth[o - 1]);
      if (x < size - 1) drop = Math.max(drop, depth[o] - depth[o + 1]);
      if (y > 0) drop = Math.max(drop, depth[o] - depth[o - size]);
      if (y < size - 1) drop = Math.max(drop, depth[o] - depth[o + size]);
      const ink = drop > 0.06 * n ? 0.55 : 1;
      for (let c = 0; c < 3; c++) data[4 * o + c] = ((from[c] + (into[c] - from[c]) * part) * (1 - fog) + back[c] * fog) * ink;
      data[4 * o + 3] = 255;
    }
  }

  function redraw() {
    if (!waiting) { waiting = true; requestAnimationFrame(draw); }
  }

  function remesh() {
    const level = Number(slider.value), threshold = toByte(level);
    shape = mesh(threshold);
    let inside = 0;
    for (const value of bytes) if (value >= threshold) inside++;
    const volume = inside * Math.pow(settings.voxel_angstrom, 3);
    const mass = volume / settings.angstrom3_per_dalton / 1000;
    reading.textContent = (level / settings.sigma).toFixed(1) + " σ (" + Number(level.toPrecision(3)) + "), encloses " +
      Math.round(volume / 1000).toLocaleString("en") + " nm³, about " + Math.round(mass).toLocaleString("en") + " kDa of protein";
    slider.setAttribute("aria-valuetext", reading.textContent);
    redraw();
  }

  const turnBy = (aboutX, aboutY) => { turn = multiply(rotation(aboutX, aboutY), turn); redraw(); };
  const zoomBy = (factor) => { zoomed = clamp(zoomed * factor, 0.5, 6); redraw(); };
  const reset = () => { turn = start(); zoomed = 1; redraw(); };
  const fingers = new Map();
  let spread = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    spread = 0;
    moving = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 1) {
      const speed = 3.2 / canvas.clientWidth;
      turnBy((event.clientY - last[1]) * speed, (event.clientX - last[0]) * speed);
    } else {
      const [p, q] = [...fingers.values()], now = Math.hypot(p[0] - q[0], p[1] - q[1]);
      if (spread) zoomBy(now / spread);
      spread = now;
    }
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => {
    fingers.delete(event.pointerId);
    spread = 0;
    moving = fingers.size > 0;
    redraw();
  });
  // The wheel zooms only once the picture was chosen, so that scrolling the page never gets caught in it.
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY * 0.0015));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const action = {
      ArrowLeft: () => turnBy(0, -0.12), ArrowRight: () => turnBy(0, 0.12), ArrowUp: () => turnBy(-0.12, 0), ArrowDown: () => turnBy(0.12, 0),
      "+": () => zoomBy(1.15), "=": () => zoomBy(1.15), "-": () => zoomBy(1 / 1.15), "0": reset,
    }[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  const hand = figure.querySelector("[data-hand]");
  hand.addEventListener("click", () => {
    mirrored = !mirrored;
    hand.setAttribute("aria-pressed", String(mirrored));
    figure.querySelector("[data-shown]").textContent = mirrored ? "mirror image (other hand)" : "map.mrc";
    redraw();
  });
  figure.querySelector("[data-closer]").addEventListener("click", () => zoomBy(1.25));
  figure.querySelector("[data-farther]").addEventListener("click", () => zoomBy(0.8));
  figure.querySelector("[data-reset]").addEventListener("click", () => { slider.value = settings.level; reset(); remesh(); });
  let later = 0;
  slider.addEventListener("input", () => { clearTimeout(later); later = setTimeout(remesh, 15); });
  new ResizeObserver(redraw).observe(canvas);
  document.addEventListener("themechange", redraw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  turn = start();
  remesh();
})();
