"use strict";
// Runs before the page is painted, so that it never flashes in the other theme.
try {
  const theme = localStorage.getItem("agento-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* storage is not allowed */ }
