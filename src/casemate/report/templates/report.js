"use strict";
// The report is complete without this: it only adds the theme, sorting, filters and copying.
(() => {
  const root = document.documentElement;
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  root.classList.add("scripted");
  all(".needs-script").forEach((element) => { element.hidden = false; });
  const say = (text) => { find("#said").textContent = text; };

  // Theme: the system's until the reader chooses; a file without storage forgets the choice.
  const button = find("#theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  try {
    const chosen = localStorage.getItem("casemate-theme");
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  } catch { /* no storage: follow the system */ }
  label();
  system.addEventListener("change", label);
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("casemate-theme", root.dataset.theme); } catch { /* as above */ }
    label();
  });

  // Copying: the clipboard where the browser allows it, else the selection.
  const copy = async (element) => {
    try {
      await navigator.clipboard.writeText(element.textContent);
      return true;
    } catch {
      const selection = getSelection();
      selection.selectAllChildren(element);
      return document.execCommand("copy");
    }
  };
  all(".copy").forEach((one) => one.addEventListener("click", async () => {
    const done = await copy(find("code", one.parentElement));
    say(done ? "Copied" : "Selected: press Ctrl+C to copy");
    const text = one.firstChild;
    text.data = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { text.data = "Copy"; }, 1500);
  }));

  // Details of a trial
  const table = find("#trial-table");
  const bodies = all("tbody", table);
  const unfold = (body, open) => {
    find(".detail", body).classList.toggle("open", open);
    find(".more", body).setAttribute("aria-expanded", String(open));
  };
  bodies.forEach((body) => find(".more", body).addEventListener("click", (event) => {
    unfold(body, event.currentTarget.getAttribute("aria-expanded") !== "true");
  }));

  // Filters
  const words = new Map(bodies.map((body) => [body, body.rows[0].textContent.toLowerCase()]));
  const [query, state, controls] = [find("#find"), find("#state"), find("#controls")];
  let only = null;
  const filter = () => {
    const wanted = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const body of bodies) {
      const text = words.get(body);
      const kept = wanted.every((word) => text.includes(word))
        && (!state.value || body.dataset.state === state.value)
        && (controls.checked || !("control" in body.dataset))
        && (!only || only.has(body.id));
      body.hidden = !kept;
      count += kept ? 1 : 0;
    }
    find("#shown").textContent = `${count} of ${bodies.length} trials`;
    find("#nothing").hidden = count > 0;
  };
  query.addEventListener("input", filter);
  state.addEventListener("change", filter);
  controls.addEventListener("change", filter);
  const clear = () => {
    [query.value, state.value, controls.checked, only] = ["", "", true, null];
    filter();
  };
  find("#clear").addEventListener("click", clear);
  all("[data-trials]").forEach((link) => link.addEventListener("click", () => {
    clear();
    only = new Set(link.dataset.trials.split(" ").map((number) => `trial-${number}`));
    filter();
  }));
  filter();

  // Sorting: numbers by value with missing ones last, text by the reader's language
  all("th[data-sort]", table).forEach((head) => {
    const sorter = document.createElement("button");
    sorter.type = "button";
    sorter.className = "sorter";
    sorter.textContent = head.textContent;
    head.replaceChildren(sorter);
    sorter.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = head.dataset.sort === "number";
      const value = (body) => {
        const cell = body.rows[0].cells[head.cellIndex];
        if (!numeric) return cell.dataset.value ?? cell.textContent.trim();
        return cell.dataset.value ? Number(cell.dataset.value) : null;
      };
      const keys = new Map(bodies.map((body) => [body, value(body)]));
      const sorted = [...bodies].sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        const order = numeric ? x - y : x.localeCompare(y);
        return up ? order : -order;
      });
      table.append(...sorted);
      say(`Sorted by ${sorter.textContent}, ${head.getAttribute("aria-sort")}`);
    });
  });

  // All findings at once, to read through or to print
  const opener = find("#open-all");
  opener?.addEventListener("click", () => {
    const open = opener.getAttribute("aria-pressed") !== "true";
    opener.setAttribute("aria-pressed", String(open));
    opener.textContent = open ? "Close all" : "Open all";
    all("details.finding").forEach((finding) => { finding.open = open; });
  });

  // A link to something folded away unfolds it
  const reveal = () => {
    const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    if (!target) return;
    for (let up = target; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
    if (target.matches("tbody")) {
      if (target.hidden) clear();
      unfold(target, true);
    }
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
