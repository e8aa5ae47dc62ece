// The gallery: shows the cards that match, in the order that is asked for. Without a gallery there is nothing to do.
"use strict";
(() => {
  const gallery = document.getElementById("cards");
  if (!gallery) return;
  const part = name => document.getElementById(name);
  const items = Array.from(gallery.children);

  const matches = item =>
    item.dataset.id.toLowerCase().includes(part("find").value.trim().toLowerCase()) &&
    (!part("truth").value || item.dataset.truth === part("truth").value) &&
    (!part("outcome").value || item.dataset.outcome === part("outcome").value ||
      (part("outcome").value === "whole" && item.dataset.whole === "1"));

  // ids in the order of the alphabet, numbers from the largest; equal ones by id
  const compare = key => (a, b) => {
    const byId = a.dataset.id < b.dataset.id ? -1 : a.dataset.id > b.dataset.id ? 1 : 0;
    return key === "id" ? byId : (b.dataset[key] - a.dataset[key]) || byId;
  };

  const filter = () => {
    let shown = 0;
    for (const item of items) {
      item.hidden = !matches(item);
      shown += item.hidden ? 0 : 1;
    }
    part("count").value = `${shown} of ${items.length}`;
  };

  const sort = () => {
    const ordered = items.slice().sort(compare(part("sort").value));
    if (part("reverse").getAttribute("aria-pressed") === "true") ordered.reverse();
    gallery.append(...ordered);
  };

  for (const name of ["find", "truth", "outcome"]) part(name).addEventListener("input", filter);
  part("sort").addEventListener("input", sort);
  part("reverse").addEventListener("click", () => {
    const reversed = part("reverse").getAttribute("aria-pressed") === "true";
    part("reverse").setAttribute("aria-pressed", String(!reversed));
    sort();
  });
  gallery.addEventListener("click", event => { // Enter on the button is a click too
    const button = event.target.closest(".enlarge");
    if (!button) return;
    const small = button.firstElementChild, large = part("large").querySelector("img");
    large.src = small.src;
    large.alt = small.alt;
    part("large-title").textContent = small.alt;
    part("large").showModal();
  });
  part("large").addEventListener("click", event => { if (event.target === event.currentTarget) event.target.close(); });
  part("controls").addEventListener("submit", event => event.preventDefault());
  filter(); // a browser may have kept what was chosen before the page was loaded again
  sort();
})();
