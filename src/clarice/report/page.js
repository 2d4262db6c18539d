// Theme, enlarged pictures, chart read-out and copying: each works alone, and the page reads well without any of it.
(function () {
  "use strict";
  const root = document.documentElement;
  const toggle = document.querySelector("[data-theme-toggle]");
  const remembered = () => { try { return localStorage.getItem("clarice-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => { toggle.textContent = isDark() ? "Light theme" : "Dark theme"; };
  if (remembered()) root.dataset.theme = remembered();
  toggle.hidden = false;
  name();
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("clarice-theme", root.dataset.theme); } catch { /* a private window keeps nothing */ }
    name();
    document.dispatchEvent(new Event("themechange"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);

  const dialog = document.querySelector("dialog.enlarged");
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.enlarge");
    if (!button) return;
    const stage = dialog.querySelector(".stage");
    stage.replaceChildren(...[...button.querySelectorAll("img")].map((image) => image.cloneNode()));
    dialog.querySelector("p").textContent = button.dataset.caption;
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  for (const chart of document.querySelectorAll("svg[data-readout]")) {
    const plot = JSON.parse(chart.dataset.readout);
    const place = chart.closest("figure").querySelector("output");
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y1", plot.top);
    cursor.setAttribute("y2", plot.bottom);
    cursor.style.display = "none";
    chart.append(cursor);
    let index = -1;
    const show = (at) => {
      index = Math.min(Math.max(at, 0), plot.x.length - 1);
      const x = plot.left + ((plot.x[index] - plot.low) / (plot.high - plot.low)) * (plot.right - plot.left);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.style.display = "";
      const where = plot.reciprocal ? (plot.x[index] > 0 ? (1 / plot.x[index]).toFixed(2) + " Å" : "origin") : plot.label + " " + plot.x[index];
      place.textContent = where + ": " + plot.series.filter((s) => s.y[index] !== null && s.y[index] !== undefined)
        .map((s) => (plot.series.length > 1 ? s.label + " " : "") + s.y[index]).join(", ");
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const inside = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      const value = plot.low + ((inside - plot.left) / (plot.right - plot.left)) * (plot.high - plot.low);
      let best = 0;
      plot.x.forEach((x, i) => { if (Math.abs(x - value) < Math.abs(plot.x[best] - value)) best = i; });
      show(best);
    });
    chart.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.preventDefault();
      show(index + (event.key === "ArrowRight" ? 1 : -1));
    });
    const hide = () => { cursor.style.display = "none"; place.textContent = ""; };
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("blur", hide);
  }

  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
})();
