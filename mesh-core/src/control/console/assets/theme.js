// What works without a script is put away where there is one.
document.documentElement.dataset.script = "";
// Sets the theme that was chosen on this browser, before anything is drawn.
try {
  const chosen = localStorage.getItem("weft-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing follows the system.
}
