// Offers each drawing as a PNG, made here from the page's own SVG: in its light theme, on white, at
// three times its size. Nothing is stored or fetched for it.
addEventListener("DOMContentLoaded", () => {
  const light = document.styleSheets[0].cssRules[0].style; // :root, before the dark theme's
  const save = async (drawing, name) => {
    const svg = drawing.cloneNode(true);
    for (const variable of light) if (variable.startsWith("--")) svg.style.setProperty(variable, light.getPropertyValue(variable));
    svg.style.color = light.getPropertyValue("--ink");
    svg.style.setProperty("--page", "#fff");
    svg.insertAdjacentHTML("afterbegin", "<style>* { stroke-linejoin: round; stroke-linecap: butt }</style>");
    const image = new Image();
    image.src = "data:image/svg+xml," + encodeURIComponent(new XMLSerializer().serializeToString(svg));
    await image.decode();
    const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
    [canvas.width, canvas.height] = [3 * image.width, 3 * image.height];
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await new Promise(done => canvas.toBlob(done, "image/png")));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000); // the browser may still be reading
  };
  for (const figure of document.querySelectorAll("figure.drawing")) {
    const drawing = figure.querySelector(".canvas > svg"), file = figure.querySelector(".files a[href$='.svg']");
    if (!drawing || !file) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "PNG";
    button.addEventListener("click", () => save(drawing, `${figure.id}.png`));
    file.after(" · ", button);
  }
});
