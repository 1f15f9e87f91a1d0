// `element` is the component's; what is in it is replaced by each restoration, so it is the element
// that listens. The slider is a share of what can be seen, zoomed in as well.
const parts = () => ({
  stage: element.querySelector(".glsgn-stage"),
  before: element.querySelector(".glsgn-before"),
  after: element.querySelector(".glsgn-after"),
  line: element.querySelector(".glsgn-line"),
  slider: element.querySelector(".glsgn-slider"),
  zoom: element.querySelector(".glsgn-zoom"),
});
const move = () => {
  const { stage, after, line, slider } = parts();
  if (!stage) return;
  const at = stage.scrollLeft + (slider.value / 1000) * stage.clientWidth;
  after.style.clipPath = `inset(0 0 0 ${at}px)`;
  line.style.left = `${at - 1}px`;
  line.style.height = `${after.offsetHeight}px`;
};
const zoom = (actual, x = 0.5, y = 0.5) => {
  const { stage, before, after, zoom } = parts();
  stage.classList.toggle("glsgn-actual", actual);
  zoom.setAttribute("aria-pressed", String(actual));
  for (const image of [before, after]) {
    // One pixel of the picture for one of the screen, whatever the browser's own zoom.
    image.style.width = actual ? `${image.naturalWidth / window.devicePixelRatio}px` : "";
  }
  stage.scrollLeft = x * before.offsetWidth - stage.clientWidth / 2;
  stage.scrollTop = y * before.offsetHeight - stage.clientHeight / 2;
  move();
};
element.addEventListener("input", (event) => {
  if (event.target.classList.contains("glsgn-slider")) move();
});
element.addEventListener("click", (event) => {
  if (!event.target.classList.contains("glsgn-zoom")) return;
  zoom(!parts().stage.classList.contains("glsgn-actual"));
});
element.addEventListener("dblclick", (event) => {
  const { stage, before } = parts();
  if (!stage || !stage.contains(event.target)) return;
  const box = before.getBoundingClientRect();
  const actual = stage.classList.contains("glsgn-actual");
  zoom(!actual, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
});
element.addEventListener("scroll", move, true);
element.addEventListener("load", move, true);
window.addEventListener("resize", move);
let held = null;
element.addEventListener("pointerdown", (event) => {
  const { stage } = parts();
  if (!stage || !stage.contains(event.target)) return;
  held = { x: event.clientX, y: event.clientY, left: stage.scrollLeft, top: stage.scrollTop };
});
window.addEventListener("pointerup", () => { held = null; });
element.addEventListener("pointermove", (event) => {
  const { stage, slider } = parts();
  if (!held || !stage) return;
  if (stage.classList.contains("glsgn-actual")) {
    stage.scrollLeft = held.left + held.x - event.clientX;
    stage.scrollTop = held.top + held.y - event.clientY;
  } else {
    const box = stage.getBoundingClientRect();
    slider.value = 1000 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  }
  move();
});
