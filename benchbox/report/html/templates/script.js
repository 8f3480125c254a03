"use strict";
// Sorting, filtering and enlarging; the page is complete without it.
(() => {
  const byId = (id) => document.getElementById(id);

  // Sorting: by the full precision in data-value, empty values last in both directions.
  const compare = (first, second, down) => {
    if (first === "" || second === "") return (first === "") - (second === "");
    const [a, b] = [Number(first.replace("inf", "Infinity")), Number(second.replace("inf", "Infinity"))];
    const order = Number.isNaN(a) || Number.isNaN(b) ? first.localeCompare(second) : a - b;
    return down ? -order : order;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        heads.forEach((cell) => cell.removeAttribute("aria-sort"));
        const down = before ? before === "ascending" : head.classList.contains("number");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[column].dataset.value;
        body.append(...[...rows].sort((first, second) => compare(value(first), value(second), down)));
      });
    });
  }

  // Filtering: one form for all leaderboards; the table over all noises has the denoisers that are left in any.
  const form = byId("filter");
  const rows = [...document.querySelectorAll("table.leaderboard tbody tr")];
  const apply = () => {
    const text = byId("filter-text").value.trim().toLowerCase();
    const level = byId("filter-noise-level").value;
    const front = byId("filter-front");
    let shown = 0;
    for (const row of rows) {
      const fits = row.dataset.denoiser.toLowerCase().includes(text)
        && (!level || row.dataset.noiseLevel === level)
        && (!byId("filter-ranked").checked || row.dataset.ranked === "yes")
        && (!front || !front.checked || row.dataset.front === "yes");
      row.hidden = !fits;
      shown += fits;
    }
    const names = new Set(rows.filter((row) => !row.hidden).map((row) => row.dataset.denoiser));
    for (const row of document.querySelectorAll("#summary tbody tr")) {
      row.hidden = !names.has(row.querySelector("th").dataset.value);
    }
    byId("filter-count").value = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
  };
  for (const event of ["input", "change"]) form.addEventListener(event, apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("filter-fold").hidden = rows.length === 0;

  // What is folded is printed, too.
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("main details")) fold.open = true;
  });

  // Enlarging: a picture over the clean or the noisy one, with a slider between the two.
  const zoom = byId("zoom");
  const slide = () => {
    const share = byId("zoom-slider").value;
    byId("zoom-over").style.clipPath = `inset(0 0 0 ${share}%)`;
    byId("zoom-line").style.left = `${share}%`;
  };
  let shown;
  const compareWith = () => {
    const under = shown.closest("tr").querySelector(`[data-name="${byId("zoom-with").value}"]`);
    byId("zoom-under").src = under.src;
    byId("zoom-under").alt = under.alt;
  };
  const open = (picture) => {
    shown = picture;
    byId("zoom-with").value = picture.dataset.name === "clean" ? "noisy" : "clean";
    compareWith();
    byId("zoom-over").src = picture.src;
    byId("zoom-over").alt = picture.alt;
    byId("zoom-title").textContent = picture.alt;
    byId("zoom-name").textContent = picture.dataset.name;
    const scores = picture.closest("td").querySelectorAll(".score");
    byId("zoom-scores").textContent = [...scores].map((score) => score.textContent).join(", ");
    byId("zoom-slider").value = 50;
    slide();
    zoom.showModal();
  };
  for (const picture of document.querySelectorAll(".gallery .picture")) {
    picture.classList.add("zoomable");
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.addEventListener("click", () => open(picture));
    picture.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        open(picture);
      }
    });
  }
  byId("zoom-slider").addEventListener("input", slide);
  byId("zoom-with").addEventListener("change", compareWith);
  byId("zoom-close").addEventListener("click", () => zoom.close());
  zoom.addEventListener("click", (event) => {
    if (event.target === zoom) zoom.close();
  });
})();
