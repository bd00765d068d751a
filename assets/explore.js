/* Explorers: figures whose sliders answer without a kernel.

   The page holds the frame shown first as SVG, and beside it a pack of all frames: a vocabulary of
   SVG tags, and each frame as numbers into it. Frames are ordered with the last slider fastest.
   See rl_helpers/frames.py. */
(function () {
  "use strict";

  function unpack(pack, index) {
    return pack.frames[index].map((number) => pack.vocabulary[number]).join("");
  }

  function checked(pack, sliders) {
    const frames = pack.values.reduce((product, values) => product * values.length, 1);
    if (pack.values.length !== sliders.length) throw new Error("one list of values per slider");
    if (pack.frames.length !== frames || pack.alts.length !== frames)
      throw new Error(`${frames} frames and alt texts, got ${pack.frames.length} and ${pack.alts.length}`);
    return pack;
  }

  function explorer(element) {
    const figure = element.querySelector(".explore-figure");
    const controls = element.querySelector(".explore-controls");
    if (!controls) return; // a plain figure
    const sliders = [...controls.querySelectorAll("input[type=range]")];
    const pack = checked(JSON.parse(element.querySelector(".explore-pack").textContent), sliders);
    const drawn = new Map(); // frames as SVG, once they were shown

    // Everything that moves a slider goes through here: a reader's hand, or the timer of a player.
    function show() {
      let index = 0;
      sliders.forEach((slider, i) => {
        const value = pack.values[i][slider.value];
        slider.setAttribute("aria-valuetext", value);
        slider.parentElement.querySelector("output").textContent = value;
        slider.style.setProperty("--at", slider.value / slider.max);
        index = index * pack.values[i].length + Number(slider.value);
      });
      if (!drawn.has(index)) drawn.set(index, unpack(pack, index));
      figure.innerHTML = drawn.get(index);
      figure.setAttribute("aria-label", pack.alts[index]);
    }

    sliders.forEach((slider) => {
      slider.style.setProperty("--at", slider.value / slider.max);
      slider.addEventListener("input", show);
    });
    const button = controls.querySelector(".explore-play");
    if (button) player(button, sliders[Number(button.dataset.slider)], show);
    controls.hidden = false;
    // The browser may put the sliders where the reader left them, before this script or after it.
    const restored = () => sliders.some((slider) => slider.value !== slider.defaultValue);
    if (restored()) show();
    addEventListener("pageshow", () => restored() && show());
  }

  // A button that steps a slider to its end. With reduced motion there is no such button.
  function player(button, slider, show) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    let timer = 0;
    function stop() {
      clearInterval(timer);
      timer = 0;
      button.textContent = "play";
    }
    function step() {
      slider.value = Number(slider.value) + 1;
      show();
      if (slider.value === slider.max) stop();
    }
    button.addEventListener("click", () => {
      if (timer) return stop();
      if (slider.value === slider.max) {
        slider.value = 0;
        show();
      }
      button.textContent = "pause";
      timer = setInterval(step, Number(button.dataset.milliseconds));
    });
    slider.addEventListener("input", stop); // the reader's hand goes first
    button.hidden = false;
  }

  document.querySelectorAll("[data-explore]").forEach((element) => {
    try {
      explorer(element);
    } catch (error) {
      console.error(`Explorer ${element.dataset.explore} has a malformed pack: ${error.message}`);
    }
  });
})();
