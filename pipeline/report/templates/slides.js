"use strict";
const slides = JSON.parse(document.getElementById("data").textContent);
const control = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const order = new Intl.Collator("en", { numeric: true }).compare;
const reasons = { pen: "under ink", blank: "blank", blurred: "out of focus", damaged: "damaged", limit: "over the limit", glass: "glass", edge: "over the edge" };
let page = 0;

const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
};

const value = (slide, key) => (key.startsWith("dropped.") ? slide.dropped[key.slice(8)] || 0 : slide[key]);

// What is not known (the tissue area of a folder of images) comes last, whichever way it is sorted.
const compare = (key, sign) => (a, b) => {
  const [x, y] = [value(a, key), value(b, key)];
  if (x === null || y === null) return (x === null) - (y === null);
  if (typeof x === "string") return sign * order(x, y);
  return sign * (x - y) || order(a.id, b.id);
};

const shown = () => {
  const words = control("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const which = control("show").value;
  const sort = control("sort").value;
  const found = slides.filter((slide) => {
    const text = `${slide.id} ${slide.label} ${slide.split}`.toLowerCase();
    return words.every((word) => text.includes(word)) && (which !== "lost" || slide.lost > 0) && (which !== "few" || slide.tiles < 50);
  });
  return found.sort(sort.startsWith("-") ? compare(sort.slice(1), -1) : compare(sort, 1));
};

const enlarge = (slide, file, what) => {
  control("large-id").textContent = slide.id;
  control("large-image").src = `slides/${file}`;
  control("large-image").alt = what;
  control("large").showModal();
};

const picture = (slide) => {
  if (!slide.overlay) return make("div", "The store does not hold its pictures.", "none");
  const button = make("button");
  button.type = "button";
  const image = make("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = `Slide ${slide.id}: tissue, kept and dropped tiles`;
  image.src = `slides/${slide.overlay}`;
  button.append(image);
  button.onclick = () => enlarge(slide, slide.overlay, image.alt);
  return button;
};

const card = (slide) => {
  const article = make("article", "", "card");
  article.append(picture(slide), make("h2", slide.id));
  article.append(make("p", [slide.split, slide.label].filter(Boolean).join(", ")));
  const size = slide.width ? `${number.format(slide.width)}\u00a0×\u00a0${number.format(slide.height)}\u00a0px` : "";
  const facts = [`${number.format(slide.tiles)} tiles`, slide.tissue === null ? "" : `${slide.tissue.toPrecision(3)} mm²`, slide.mpp ? `${slide.mpp.toPrecision(3)} µm/px` : "", size];
  article.append(make("p", facts.filter(Boolean).join(", ")));
  const lost = ["pen", "blank", "blurred", "damaged"].filter((reason) => slide.dropped[reason]);
  if (lost.length) {
    const list = lost.map((reason) => `${number.format(slide.dropped[reason])} ${reasons[reason]}`).join(", ");
    article.append(make("p", `dropped ${(100 * slide.lost).toPrecision(2)} %: ${list}`, "bad"));
  }
  const rest = ["limit", "glass", "edge"].filter((reason) => slide.dropped[reason]);
  if (rest.length) article.append(make("p", `left out: ${rest.map((reason) => `${number.format(slide.dropped[reason])} ${reasons[reason]}`).join(", ")}`));
  for (const remark of slide.remarks) article.append(make("p", remark, "bad"));
  if (slide.mosaic) {
    const more = make("button", "Sample tiles", "more");
    more.type = "button";
    more.onclick = () => enlarge(slide, slide.mosaic, `Sample tiles of ${slide.id}`);
    article.append(more);
  }
  return article;
};

const draw = () => {
  const found = shown();
  const size = Number(control("size").value);
  const pages = Math.max(1, Math.ceil(found.length / size));
  page = Math.min(Math.max(page, 0), pages - 1);
  const part = found.slice(page * size, (page + 1) * size);
  control("cards").replaceChildren(...part.map(card));
  control("where").textContent = found.length
    ? `${number.format(page * size + 1)}–${number.format(page * size + part.length)} of ${number.format(found.length)} slides`
    : "no slide is like that";
  control("back").disabled = page === 0;
  control("next").disabled = page === pages - 1;
};

const turn = (by) => { page += by; draw(); window.scrollTo(0, 0); };
control("back").onclick = () => turn(-1);
control("next").onclick = () => turn(1);
control("close").onclick = () => control("large").close();
// The address remembers what is shown: slides.html#sort=-lost is a link to the slides that lost most.
const choices = ["find", "show", "sort", "size"];
const asked = new URLSearchParams(location.hash.slice(1));
for (const id of choices) {
  if (asked.has(id)) control(id).value = asked.get(id);
  control(id).oninput = () => {
    page = 0;
    history.replaceState(null, "", `#${new URLSearchParams(choices.map((name) => [name, control(name).value]))}`);
    draw();
  };
}
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || control("large").open) return;
  if (event.key === "ArrowRight" && !control("next").disabled) turn(1);
  if (event.key === "ArrowLeft" && !control("back").disabled) turn(-1);
});
draw();
