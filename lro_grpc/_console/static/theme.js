// Runs before the first paint: says that there is script, and takes the theme that the reader has chosen.
{
  const root = document.documentElement;
  root.dataset.script = "";
  try {
    const theme = localStorage.getItem("lro-theme");
    if (theme) root.dataset.theme = theme;
  } catch { /* a browser may keep nothing */ }
}
