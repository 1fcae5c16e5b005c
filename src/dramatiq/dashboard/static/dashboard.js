// Keeps pages fresh, opens questions in a dialog, and listens to a few keys. Pages work without it.
"use strict";

(() => {
  const FRAGMENT = { "X-Fragment": "live" };
  const root = document.documentElement;
  const live = document.getElementById("live");
  const status = document.querySelector("[data-status]");
  const pause = document.querySelector("[data-pause]");
  const asking = document.getElementById("ask");
  const help = document.getElementById("help");
  const seconds = Number(document.body.dataset.refresh);
  let isPaused = false;
  let isAsking = false; // one request at a time
  let etag = null;

  root.classList.add("has-js");

  // -- keeping the page fresh

  function isBeingRead() {
    const selection = window.getSelection();
    const isSelected = selection && !selection.isCollapsed && live.contains(selection.anchorNode);
    const isTyping = live.contains(document.activeElement) &&
      document.activeElement.matches("input:not([type=checkbox]), textarea, select");
    return document.hidden || isSelected || isTyping || asking.open || help.open ||
      live.querySelector("input[type=checkbox]:checked") !== null;
  }

  function say(text) {
    if (status.textContent !== text) status.textContent = text;
  }

  async function refresh() {
    if (isPaused || isAsking || isBeingRead()) return;
    isAsking = true;
    try {
      const headers = etag ? { ...FRAGMENT, "If-None-Match": etag } : FRAGMENT;
      const answer = await fetch(location.href, { headers, cache: "no-store" });
      const html = answer.status === 304 ? null : await answer.text();
      // Reading may have begun while the answer was on its way.
      if (!isPaused && !isBeingRead() && (answer.ok || answer.status === 304)) {
        if (html !== null) swap(html);
        etag = answer.headers.get("ETag");
        say(`Updated ${new Date().toLocaleTimeString([], { hour12: false })}`);
      } else if (!answer.ok && answer.status !== 304) {
        say(`Not updated: the server answered ${answer.status}`);
      }
    } catch {
      say("Not updated: the server cannot be reached");
    } finally {
      isAsking = false;
    }
  }

  function swap(html) {
    const next = new DOMParser().parseFromString(html, "text/html").body;
    for (const details of live.querySelectorAll("details[open][id]")) {
      next.querySelector(`details[id="${CSS.escape(details.id)}"]`)?.setAttribute("open", "");
    }
    const place = rows().findIndex((row) => row.classList.contains("is-current"));
    const focused = focusables().indexOf(document.activeElement);
    live.replaceChildren(...next.childNodes);
    if (place >= 0) rows()[place]?.classList.add("is-current");
    if (focused >= 0) focusables()[focused]?.focus({ preventScroll: true });
    tellChosen();
  }

  function focusables() {
    return [...live.querySelectorAll("a[href], button, input, summary, [tabindex]")];
  }

  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    say(isPaused ? "Updates are paused" : "");
    refresh();
  });

  if (seconds > 0 && live.children.length) {
    say(`Updated ${new Date().toLocaleTimeString([], { hour12: false })}`);
    setInterval(refresh, seconds * 1000);
    document.addEventListener("visibilitychange", refresh);
  } else {
    pause.hidden = true;
  }

  // -- questions in a dialog

  async function open(url) {
    const answer = await fetch(url, { headers: FRAGMENT, cache: "no-store" });
    const body = new DOMParser().parseFromString(await answer.text(), "text/html").body;
    asking.querySelector("[data-asked]").replaceChildren(...body.childNodes);
    if (!asking.open) asking.showModal();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-dialog]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      open(link.href).catch(() => { location.href = link.href; });
    } else if (event.target.closest("[data-close]") && asking.open) {
      event.preventDefault();
      asking.close();
    } else if (event.target.closest("[data-help]")) {
      help.showModal();
    } else if (event.target.closest("[data-copy]")) {
      copy(event.target.closest("[data-copy]"));
    }
  });

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-dialog-form]") || !asking.open) return;
    event.preventDefault();
    const query = new URLSearchParams(new FormData(event.target));
    open(`${event.target.action}?${query}`);
  });

  // -- copying, also where the clipboard is not offered: on plain HTTP

  async function copy(button) {
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(text);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
      getSelection().removeAllRanges();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  // -- choosing rows

  function tellChosen() {
    const chosen = live.querySelectorAll("input[name=chosen]:checked").length;
    const label = live.querySelector("[data-chosen]");
    if (label) label.textContent = chosen ? `${chosen} chosen:` : "Act on chosen rows, or on all that match:";
  }

  live.addEventListener("change", tellChosen);

  // -- keys

  function rows() {
    return [...live.querySelectorAll("tr[data-row]")];
  }

  function move(step) {
    const all = rows();
    if (!all.length) return;
    const place = all.findIndex((row) => row.classList.contains("is-current"));
    const next = Math.min(Math.max(place + step, 0), all.length - 1);
    all[place]?.classList.remove("is-current");
    all[next].classList.add("is-current");
    all[next].scrollIntoView({ block: "nearest" });
    all[next].querySelector("a, button")?.focus({ preventScroll: true });
  }

  function requeue() {
    const row = live.querySelector("tr.is-current");
    const button = (row || live).querySelector("[data-requeue]");
    if (button && (row || !rows().length)) button.click();
  }

  const keys = {
    "/": () => document.getElementById("jump").focus(),
    "?": () => help.showModal(),
    j: () => move(1),
    k: () => move(-1),
    r: requeue,
  };

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input:not([type=checkbox], [type=radio]), textarea, select");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const action = keys[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  });
})();
