"use strict";
// The theme follows the system until the reader chooses another; the choice is kept where the browser allows it.
(() => {
  const root = document.documentElement;
  root.classList.add("has-script");
  const remembered = () => { try { return localStorage.getItem("harness-theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("harness-theme", theme); } catch { /* private window */ } };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    root.dispatchEvent(new Event("themechange"));
  };
  apply(remembered());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => root.dispatchEvent(new Event("themechange")));
  document.addEventListener("DOMContentLoaded", () => {
    const choice = document.getElementById("theme");
    choice.value = root.dataset.theme || "system";
    choice.addEventListener("change", () => { remember(choice.value); apply(choice.value); });
  });
})();
