// <micro-yolo>: boxes lie where the browser shows the picture, whatever the page does to it; everything else it promises.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { launchChromium, launchFirefox } from "./lib/browsers.mjs";
import { ROOT, SITE, serve } from "./lib/server.mjs";

/** A cell of the test's page for each of these: CSS of the picture and of the element, and what is between the two. */
const CASES = {
  "plain": {},
  "padding and border": { img: "padding: 14px 6px 3px 25px; border: solid #00f; border-width: 9px 2px 4px 12px" },
  "border-box": { img: "box-sizing: border-box; width: 150px; height: 120px; padding: 5px 20px; border: 6px solid #00f" },
  "padding in %": { img: "padding: 5% 10%" },
  "fill": { img: "width: 100px; height: 110px; object-fit: fill" },
  "contain": { img: "width: 150px; height: 120px; object-fit: contain" },
  "cover": { img: "width: 90px; height: 80px; object-fit: cover" },
  "none": { img: "width: 150px; height: 120px; object-fit: none" },
  "none, small": { img: "width: 90px; height: 50px; object-fit: none" },
  "scale-down": { img: "width: 150px; height: 120px; object-fit: scale-down" },
  "scale-down, small": { img: "width: 80px; height: 80px; object-fit: scale-down" },
  "top left": { img: "width: 150px; height: 120px; object-fit: contain; object-position: left top" },
  "from the other side": { img: "width: 150px; height: 120px; object-fit: none; object-position: right 8px bottom 12px" },
  "pixels": { img: "width: 150px; height: 120px; object-fit: none; object-position: 21px 3px" },
  "outside": { img: "width: 150px; height: 120px; object-fit: contain; object-position: 50% 130%" },
  "calc": { img: "width: 150px; height: 120px; object-fit: none; object-position: calc(100% - 6px) calc(10% + 4px)" },
  "min and max": { img: "width: 150px; height: 120px; object-fit: none; object-position: min(8px, 50%) max(20%, min(3px, 4px))" },
  "cover, to the side": { img: "width: 80px; height: 90px; object-fit: cover; object-position: 30% 0; padding: 7px" },
  "mirrored": { img: "padding-left: 20px; transform: scaleX(-1)" },
  "mirrored about y": { img: "padding-top: 20px; transform: scaleY(-1)" },
  "mirrored in space": { img: "padding-left: 20px; transform: rotateY(180deg)" },
  "turned by 90°": { img: "padding-left: 20px; transform: rotate(90deg)" },
  "upside down": { img: "padding-left: 20px; transform: rotate(180deg)" },
  "turned and mirrored": { img: "padding-left: 20px; transform: rotate(270deg) scaleX(-1)" },
  "turned a little": { img: "padding-left: 20px; transform: rotate(20deg)" },
  "about a corner": { img: "transform: rotate(15deg); transform-origin: 0 0" },
  "stretched": { img: "transform: scale(1.3, 0.7) translate(10px, 20%)" },
  "skewed": { img: "transform: skewX(20deg)" },
  "rotate, scale, translate": { img: "rotate: 90deg; scale: -1 0.8; translate: 10px 10%" },
  "rotate about y": { img: "padding-left: 20px; rotate: y 180deg" },
  "element mirrored": { img: "padding-left: 20px", host: "transform: scaleX(-1)" },
  "element turned": { img: "padding-left: 20px; transform: scaleX(-1)", host: "transform: rotate(10deg) scale(0.8)" },
  "element padded": { host: "display: block; padding: 11px 23px; border: 5px solid #00f" },
  "element flexible": { img: "margin: 8px", host: "display: flex; justify-content: center; width: 200px" },
  "from right to left": { host: "display: block; direction: rtl" },
  "zoomed": { img: "zoom: 1.4; padding: 3px 11px" },
  "element zoomed": { img: "padding-left: 20px", host: "zoom: 0.8" },
  "in a zoomed box": { around: "<div style='zoom: 1.3; padding-left: 15px'>@</div>" },
  "in a zoomed and mirrored box": { around: "<div style='zoom: 0.7; transform: scaleX(-1); padding-left: 15px'>@</div>" },
  // Firefox shows the whole picture.
  "a part of it": { img: "width: 160px; height: 100px; object-view-box: inset(10% 20px 10px 10px)" },
  "a part of it, contained": { img: "width: 150px; height: 120px; object-fit: contain; object-view-box: xywh(10px 10px 80px 45px)" },
  "in a figure": { around: "<figure style='margin: 6px 12px'><figcaption>A caption</figcaption>@</figure>" },
  "in a link": { around: "<a href='#'>A link @</a>" },
  "in a <picture>": { around: "<picture><source media='print' srcset='none.png'>@</picture>" },
  "in a mirrored box": { around: "<div style='transform: scaleX(-1); padding-left: 30px'>@</div>" },
  "in a turned, placed box": { around: "<div style='position: relative; left: 9px; rotate: 90deg'>@</div>" },
  "in a link, which no transform moves": { around: "<a href='#' style='transform: scaleX(-1)'>@</a>" },
  "stored turned": { orientation: 6 },
  "stored turned, and shown as stored": { orientation: 6, img: "image-orientation: none" },
  "stored upside down, and shown as stored": { orientation: 3, img: "image-orientation: none; width: 90px" },
  "shown as stored, by what is around": { orientation: 8, img: "width: 100px; height: 100px; object-fit: contain", around: "<div style='image-orientation: none'>@</div>" },
  "shown as stored, in a mirror": { orientation: 5, img: "image-orientation: none; transform: scaleX(-1)" },
  "shown as stored, where that is upright": { img: "image-orientation: none" },
  "element inline": { img: "padding-left: 9px", host: "display: inline" },
  "element inline, with a border": { host: "display: inline; border: 9px solid #00f; border-top-width: 7px" },
  "element inline, of several lines": { host: "display: inline", around: "Text @ and more text, of several lines" },
  "element inline, of several lines, picture last": { host: "display: inline", around: "Text before it, more than goes in two lines @" },
  "element inline, from right to left": { host: "display: inline; direction: rtl", around: "Text @ and more text, of several lines" },
  "element inline, mirrored in vain": { host: "display: inline; transform: scaleX(-1)" },
  "element in lines from right to left": { box: "direction: rtl", host: "display: inline; border: 5px solid #00f", around: "Text @ and more text, of several lines" },
  "element in upright lines": { box: "writing-mode: vertical-rl", host: "display: inline", around: "Text @ and more text, of several lines" },
  "element in columns": { box: "columns: 2; column-gap: 0; padding: 0", host: "display: inline; font-size: 10px", around: "Text that fills the first column, of several lines or more @ and more text" },
  "element without a box": { img: "padding-left: 9px", host: "display: contents" },
  "element static": { img: "padding-left: 9px", host: "position: static" },
  "element absolute": { img: "padding-left: 9px", host: "position: absolute" },
  "element fixed to a side": { img: "padding-left: 9px", host: "float: right" },
  "element in columns of text": { host: "display: block; writing-mode: vertical-rl; width: 200px" },
  "picture placed": { img: "position: absolute; left: 12px; top: 7px", host: "width: 150px; height: 80px" },
  "picture on a path": { img: "offset-path: path('M 10 10 L 60 40'); offset-distance: 50%; offset-rotate: 0deg" },
  "element scrolled": { host: "overflow: auto; width: 100px; height: 50px; scrollbar-width: none", most: 6 },
  "scrolled": { around: "<div class='scrolled' style='width: 100px; height: 50px; overflow: hidden'>@</div>", most: 6 },
};

for (const [name, launch] of Object.entries({ chromium: launchChromium, firefox: launchFirefox })) {
  describe(`<micro-yolo> in ${name}`, () => {
    let site, browser, page;
    const errors = [];

    before(async () => {
      site = await serve({ mounts: { ...SITE, "/lib/": "tests/e2e/lib" } });
      site.route("/blank.html", (_, response) =>
        response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>element</title><body>"),
      );
      browser = await launch();
    });

    after(async () => {
      await browser?.close();
      await site?.close();
      assert.deepEqual(errors, [], "errors that nobody caught");
    });

    /** A new page with the element in it, and `make(html)`, which puts one in and answers with it. */
    async function open(size = { width: 1000, height: 700 }) {
      await page?.close();
      page = await browser.newPage();
      // Firefox also calls it an error that a download was stopped.
      page.on("pageerror", (error) => /Failed to read data from the ReadableStream/.test(String(error)) || errors.push(String(error)));
      await page.setViewport(size);
      await page.goto(`${site.url}blank.html`);
      await page.evaluate(async () => {
        await import("/pkg/element.js");
        const lib = await import("/lib/in-page.js");
        const picture = await lib.blobOf(lib.spotCanvas(120, 60, { x: 20, y: 15, w: 50, h: 25 }));
        const frames = (count) =>
          new Promise((resolve) => {
            const next = (left) => (left ? requestAnimationFrame(() => next(left - 1)) : resolve());
            next(count);
          });
        Object.assign(globalThis, { lib, frames, picture: URL.createObjectURL(picture), events: [] });
        globalThis.make = (html) => {
          const holder = document.createElement("div");
          holder.innerHTML = html.replaceAll("PICTURE", globalThis.picture).replaceAll("MODEL", lib.MODEL);
          const element = holder.firstElementChild;
          for (const event of ["detect", "detect-error"]) {
            element.addEventListener(event, (happened) => {
              happened.preventDefault();
              globalThis.events.push(happened.detail.error?.code ?? happened.detail.objects.length);
            });
          }
          document.body.append(element);
          return element;
        };
        /** Waits until there have been so many events, or for too long; gives them out. */
        globalThis.heard = async (count) => {
          for (let tries = 0; tries < 400 && globalThis.events.length < count; tries += 1) await lib.sleep(20);
          return globalThis.events.splice(0);
        };
      });
    }

    test("boxes lie where the picture lies", async () => {
      const [cell, rows, columns] = [{ width: 250, height: 190 }, Math.ceil(Object.keys(CASES).length / 6), 6];
      await open({ width: cell.width * columns, height: cell.height * rows });
      await page.evaluate(
        async ({ cases, cell, columns }) => {
          // Labels would hide where boxes are.
          CanvasRenderingContext2D.prototype.fill = CanvasRenderingContext2D.prototype.fillText = () => {};
          document.body.style.margin = "0";
          const jpeg = await globalThis.lib.blobOf(globalThis.lib.spotCanvas(120, 60, { x: 20, y: 15, w: 50, h: 25 }), "image/jpeg");
          const turned = {};
          for (const orientation of [3, 5, 6, 8]) turned[orientation] = URL.createObjectURL(await globalThis.lib.oriented(jpeg, orientation));
          cases.forEach(({ img = "", host = "", around = "@", box = "", orientation }, index) => {
            const picture = `<img src="${turned[orientation] ?? "PICTURE"}" style="${img}">`;
            const element = globalThis.make(`<micro-yolo model="MODEL" style="${host}">${around.replace("@", picture)}</micro-yolo>`);
            const holder = document.createElement("div");
            const [left, top] = [(index % columns) * cell.width, Math.floor(index / columns) * cell.height];
            holder.style = `position: absolute; left: ${left}px; top: ${top}px; box-sizing: border-box; padding: 30px 35px; ${box}`;
            Object.assign(holder.style, { width: `${cell.width}px`, height: `${cell.height}px`, overflow: "hidden" });
            holder.append(element);
            document.body.append(holder);
          });
          await globalThis.heard(cases.length);
          for (const one of document.querySelectorAll(".scrolled, micro-yolo")) one.scrollTo(13, 9);
          await globalThis.frames(4);
        },
        { cases: Object.values(CASES), cell, columns },
      );
      /** Extents of the red of the picture and of the colour of boxes, in each cell. */
      const look = async (shown) => {
        await page.evaluate((shown) => {
          for (const one of document.querySelectorAll("micro-yolo")) {
            one.shadowRoot.querySelector("canvas").style.visibility = shown ? "" : "hidden";
          }
          return globalThis.frames(3);
        }, shown);
        const base64 = Buffer.from(await page.screenshot()).toString("base64");
        return page.evaluate(
          async ({ base64, cell, columns, count }) => {
            const { classColor } = await import("/pkg/draw.js");
            const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
            const shot = await createImageBitmap(new Blob([bytes]));
            const context = new OffscreenCanvas(shot.width, shot.height).getContext("2d");
            context.fillStyle = classColor(0);
            context.fillRect(0, 0, 1, 1);
            const paint = context.getImageData(0, 0, 1, 1).data;
            context.drawImage(shot, 0, 0);
            return Array.from({ length: count }, (_, index) => {
              const [left, top] = [(index % columns) * cell.width, Math.floor(index / columns) * cell.height];
              const { data } = context.getImageData(left, top, cell.width, cell.height);
              const extent = (matches) => {
                const found = [Infinity, Infinity, -Infinity, -Infinity];
                for (let at = 0; at < data.length; at += 4) {
                  if (!matches(data[at], data[at + 1], data[at + 2])) continue;
                  const [x, y] = [(at / 4) % cell.width, Math.floor(at / 4 / cell.width)];
                  found.splice(0, 4, Math.min(found[0], x), Math.min(found[1], y), Math.max(found[2], x), Math.max(found[3], y));
                }
                return found;
              };
              return {
                red: extent((r, g, b) => r > 190 && g < 80 && b < 80),
                box: extent((r, g, b) => Math.max(Math.abs(r - paint[0]), Math.abs(g - paint[1]), Math.abs(b - paint[2])) < 50),
              };
            });
          },
          { base64, cell, columns, count: Object.keys(CASES).length },
        );
      };
      const pictures = await look(false);
      const boxes = await look(true);
      Object.entries(CASES).forEach(([what, { most = 4 }], index) => {
        const [{ red }, { box }] = [pictures[index], boxes[index]];
        const off = red.map((edge, side) => Math.abs(edge - box[side]));
        assert.ok(off.every((pixels) => pixels <= most), `${what}: the picture's is ${red}, the box ${box}`);
      });
    });

    test("boxes follow the picture when it moves", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard, frames, lib } = globalThis;
        const element = make(`<micro-yolo model="MODEL"><figure><p></p><img src="PICTURE"></figure></micro-yolo>`);
        await heard(1);
        const [image, canvas] = [element.querySelector("img"), element.shadowRoot.querySelector("canvas")];
        const apart = () => {
          const [a, b] = [image, canvas].map((one) => one.getBoundingClientRect());
          return ["x", "y", "width", "height"].map((name) => Math.round(Math.abs(a[name] - b[name]))).join();
        };
        const sheet = document.head.appendChild(document.createElement("style"));
        sheet.textContent = `.large { width: 200px } .moved { translate: 50px } .slow { transition: transform 0.2s; transform: scale(1.5) }
          @media (min-width: 1px) { .never { } }`;
        const answers = [];
        const step = async (what, work, wait = 0) => {
          await work();
          await lib.sleep(wait);
          await frames(3);
          answers.push(`${what}: ${apart()}`);
        };
        await step("start", () => {});
        await step("style", () => (image.style.width = "240px"));
        await step("class", () => image.classList.add("moved"));
        await step("text above", () => (element.querySelector("p").textContent = "Some text, which takes a line or two"));
        await step("around", () => (element.querySelector("figure").style.transform = "translateX(30px)"));
        image.style.transition = "transform 0.2s";
        await step("transition", () => (image.style.transform = "scale(1.5)"), 500);
        await step("animation", () => {
          image.animate([{ marginLeft: "0" }, { marginLeft: "80px" }], { duration: 200, fill: "forwards" });
          image.dataset.animated = ""; // The script's own animations send no event.
        }, 500);
        return answers;
      });
      assert.deepEqual(found.filter((one) => !one.endsWith("0,0,0,0")), []);
    });

    test("boxes follow the picture when what is around the element changes", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { frames, lib } = globalThis;
        const picture = `<img src="PICTURE" style="margin: 7px 0 0 30px">`;
        const moved = async (_, image) => {
          for (const margin of ["9px", "19px", "13px"]) {
            image.style.marginTop = margin;
            await frames(3);
          }
        };
        const scrolled = () => document.scrollingElement.scrollTo(0, 800);
        const style = (change) => (outer) => Object.assign(outer.style, change);
        const cases = {
          "grows from nothing": [`<div style="transform: scale(0)">HERE</div>`, style({ transform: "none" })],
          "grows from nothing, slowly": [
            `<style>@keyframes grow { from { transform: scale(0) } }</style><dialog style="animation: grow 0.2s">HERE</dialog>`,
            (outer) => outer.showModal(),
          ],
          "turns to the viewer": [
            `<div style="transform: rotateY(180deg); transition: transform 0.2s">HERE</div>`,
            style({ transform: "rotateY(0deg)" }),
          ],
          "a scaled SVG": [
            `<svg viewBox="0 0 100 100" width="300" height="300"><foreignObject width="100" height="100">HERE</foreignObject></svg>`,
            moved,
          ],
          "a scaled group of SVG": [
            `<svg width="300" height="300"><g transform="scale(2)"><foreignObject width="150" height="150">HERE</foreignObject></g></svg>`,
            moved,
          ],
          "perspective": [`<div style="perspective: 100px"><div style="transform: translateZ(60px)">HERE</div></div>`, moved],
          "scrolls a sticky picture": ["<div>HERE</div>", scrolled, `<img src="PICTURE" style="position: sticky; top: 0">`],
          "scrolls a fixed picture": ["<div>HERE</div>", scrolled, `<a style="position: fixed; top: 10px"><img src="PICTURE"></a>`],
        };
        const answers = {};
        for (const [what, [around, change, content = picture]] of Object.entries(cases)) {
          const sticky = content === picture ? "" : "display: block; height: 3000px";
          const html = around.replace("HERE", `<micro-yolo model="MODEL" style="${sticky}">${content}</micro-yolo>`);
          const outer = document.body.appendChild(document.createElement("div"));
          outer.innerHTML = html.replaceAll("PICTURE", globalThis.picture).replaceAll("MODEL", lib.MODEL);
          const element = outer.querySelector("micro-yolo");
          await new Promise((resolve) => element.addEventListener("detect", resolve, { once: true }));
          await frames(3);
          const [image, canvas] = [element.querySelector("img"), element.shadowRoot.querySelector("canvas")];
          await change(element.parentElement, image);
          const apart = () => {
            const [a, b] = [image, canvas].map((one) => one.getBoundingClientRect());
            return `${["x", "y", "width", "height"].map((side) => Math.round(Math.abs(a[side] - b[side]))).join()} ${canvas.style.transform}`;
          };
          const painted = () => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean);
          for (let tries = 0; tries < 100 && !(apart() === "0,0,0,0 none" && painted()); tries += 1) await lib.sleep(20);
          answers[what] = `${apart()} ${painted()}`;
          outer.remove();
          document.scrollingElement.scrollTo(0, 0);
        }
        return answers;
      });
      assert.deepEqual(Object.entries(found).filter(([, answer]) => answer !== "0,0,0,0 none true"), []);
    });

    test("hidden until it is found, it can be found", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const element = globalThis.make(`<micro-yolo model="MODEL"><img src="PICTURE"> a caption</micro-yolo>`);
        await globalThis.heard(1);
        return [null, "", "until-found", "Until-Found", "true"].map((value) => {
          if (value === null) element.removeAttribute("hidden");
          else element.setAttribute("hidden", value);
          const { display, contentVisibility } = getComputedStyle(element);
          return `${display}, ${contentVisibility}`;
        });
      });
      const seen = "inline-block, visible";
      assert.deepEqual(found, [seen, "none, visible", "inline-block, hidden", "inline-block, hidden", "none, visible"]);
    });

    test("in documents of XML and SVG it shows boxes too", async () => {
      const xhtml = 'xmlns="http://www.w3.org/1999/xhtml"';
      const inner = `<micro-yolo ${xhtml} model="/fixtures/red-spot.onnx"><img style="margin-left: 20px; image-orientation: none"/></micro-yolo>`;
      const documents = {
        "text/xml": `<html ${xhtml}><body>${inner}</body></html>`,
        "image/svg+xml": `<svg xmlns="http://www.w3.org/2000/svg" width="600" height="400" viewBox="0 0 300 200"><foreignObject width="200" height="200">${inner}</foreignObject></svg>`,
      };
      for (const [type, text] of Object.entries(documents)) {
        site.route("/document", (_, response) => response.writeHead(200, { "content-type": type }).end(text));
        await page?.close();
        page = await browser.newPage();
        page.on("pageerror", (error) => errors.push(String(error)));
        await page.goto(`${site.url}document`);
        const found = await page.evaluate(async () => {
          const source = new OffscreenCanvas(120, 60);
          const context = source.getContext("2d");
          for (const [color, ...area] of [["rgb(110 120 130)", 0, 0, 120, 60], ["rgb(255 0 0)", 20, 15, 50, 25]]) {
            context.fillStyle = color;
            context.fillRect(...area);
          }
          const element = document.querySelector("micro-yolo");
          const answer = new Promise((resolve) => {
            for (const event of ["detect", "detect-error"]) element.addEventListener(event, ({ detail }) => resolve(detail));
          });
          element.querySelector("img").src = URL.createObjectURL(await source.convertToBlob());
          await import("/pkg/element.js");
          const { error, objects } = await answer;
          const [a, b] = [element.querySelector("img"), element.shadowRoot.querySelector("canvas")].map((one) => one.getBoundingClientRect());
          return [String(error ?? objects.length), ["x", "y", "width", "height"].map((side) => Math.round(Math.abs(a[side] - b[side]))).join()];
        });
        assert.deepEqual(found, ["1", "0,0,0,0"], type);
      }
    });

    test("boxes lie over the picture on paper", async () => {
      await open({ width: 1400, height: 700 });
      await page.evaluate(async () => {
        const element = globalThis.make(`<micro-yolo model="MODEL"><img src="PICTURE" style="width: 40vw"></micro-yolo>`);
        await globalThis.heard(1);
        await globalThis.frames(3);
        globalThis.printed = [];
        const { clearRect } = CanvasRenderingContext2D.prototype;
        matchMedia("print").addEventListener("change", () => {
          const [a, b] = [element.querySelector("img"), element.shadowRoot.querySelector("canvas")].map((one) => one.getBoundingClientRect());
          globalThis.printed.push(["x", "y", "width", "height"].map((name) => Math.round(Math.abs(a[name] - b[name]))).join(), a.width < 500);
        });
        CanvasRenderingContext2D.prototype.clearRect = function (...area) {
          globalThis.printed.push("cleared"); // Which is white on paper.
          clearRect.apply(this, area);
        };
      });
      await page.pdf({ format: "A4" });
      const printed = await page.evaluate(() => globalThis.printed);
      // Firefox prints a copy of the page, in which no script runs.
      if (name === "chromium") assert.deepEqual(printed.slice(0, 2), ["0,0,0,0", true], String(printed));
    });

    test("a picture that is shown as it is stored is looked at anew", async () => {
      await open();
      const sizes = await page.evaluate(async () => {
        const { blobOf, oriented, spotCanvas, sleep } = globalThis.lib;
        const jpeg = await blobOf(spotCanvas(120, 60, { x: 20, y: 15, w: 50, h: 25 }), "image/jpeg");
        const sizes = [];
        const element = globalThis.make(`<micro-yolo model="MODEL"><img src="${URL.createObjectURL(await oriented(jpeg, 6))}"></micro-yolo>`);
        element.addEventListener("detect", ({ detail: { width, height, objects } }) => sizes.push([width, height, objects.length].join()));
        await globalThis.heard(1);
        for (const value of ["none", "from-image"]) {
          element.querySelector("img").style.imageOrientation = value;
          await globalThis.heard(1);
        }
        await sleep(100);
        return sizes;
      });
      assert.deepEqual(sizes, ["60,120,1", "120,60,1", "60,120,1"]);
    });

    test("objects, size and orientation are always those of one picture", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard, lib } = globalThis;
        const { Detector } = await import("/pkg/index.js");
        const other = URL.createObjectURL(await lib.blobOf(lib.spotCanvas(100, 200, { x: 10, y: 90, w: 40, h: 80 })));
        const jpeg = await lib.blobOf(lib.spotCanvas(120, 60, { x: 20, y: 15, w: 50, h: 25 }), "image/jpeg");
        const turned = URL.createObjectURL(await lib.oriented(jpeg, 6));
        const { detect } = Detector.prototype;
        /** What the page does while the objects of the first picture are looked for; what is told then. */
        const seen = async (media, meanwhile, earlier) => {
          let work = meanwhile;
          Detector.prototype.detect = async function (...given) {
            const objects = await detect.apply(this, given);
            const mine = work;
            work = undefined;
            await mine?.(given[0]);
            return objects;
          };
          const element = make(`<micro-yolo model="MODEL"></micro-yolo>`);
          if (earlier) media.addEventListener("load", earlier, { once: true });
          element.append(media);
          const told = [];
          element.addEventListener("detect", ({ detail: { objects, width, height } }) => {
            const [{ box }] = objects;
            told.push(`${width} x ${height}, ${box.width > box.height ? "wide" : "high"}, ${box.y > 50 ? "below" : "above"}`);
          });
          await heard(1);
          await lib.sleep(200);
          globalThis.events.length = 0;
          element.remove();
          Detector.prototype.detect = detect;
          return told;
        };
        const change = async (image) => {
          image.src = other;
          await new Promise((resolve) => image.addEventListener("load", resolve, { once: true }));
        };
        const image = (src) => Object.assign(new Image(), { src });
        return {
          "another src": await seen(image(globalThis.picture), change),
          "another src, set as the first has loaded": await seen(image(globalThis.picture), undefined, ({ target }) => (target.src = other)),
          "another canvas": await seen(lib.spotCanvas(120, 60, { x: 20, y: 15, w: 50, h: 25 }), (canvas) => (canvas.width = 300)),
          "another orientation": await seen(image(turned), async (image) => {
            image.style.imageOrientation = "none";
            await lib.sleep(50);
          }),
        };
      });
      assert.deepEqual(found, {
        "another src": ["100 x 200, high, below"],
        "another src, set as the first has loaded": ["100 x 200, high, below"],
        "another canvas": ["120 x 60, wide, above"],
        "another orientation": ["120 x 60, wide, above"],
      });
    });

    test("what is inside may come late, change and go", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard, lib } = globalThis;
        const answers = {};
        const element = make(`<micro-yolo model="MODEL"></micro-yolo>`);
        await lib.sleep(100);
        element.innerHTML = "<figure><a></a><figcaption>text</figcaption></figure>";
        await lib.sleep(100);
        const image = new Image();
        image.src = globalThis.picture;
        element.querySelector("a").append(image);
        answers.late = await heard(1);
        image.src = URL.createObjectURL(await lib.blobOf(lib.spotCanvas(100, 100, { x: 0, y: 0, w: 0, h: 0 })));
        answers["another src"] = await heard(1);
        image.replaceWith(lib.spotCanvas(100, 100, { x: 10, y: 10, w: 40, h: 30 }));
        answers["a canvas instead"] = await heard(1);
        const caption = element.querySelector("figcaption");
        answers["text keeps its lines"] = caption.getBoundingClientRect().height > 10;
        // Handed through by a component that has a slot of its own.
        const outer = document.body.appendChild(document.createElement("div"));
        const root = outer.attachShadow({ mode: "open" });
        root.append(make(`<micro-yolo model="MODEL"><slot></slot></micro-yolo>`));
        outer.append(Object.assign(new Image(), { src: globalThis.picture }));
        answers["through a slot"] = await heard(1);
        // In the shadow tree of a component, which is defined late and draws itself later.
        const wrapped = make(`<micro-yolo model="MODEL"><p><late-image style="display: block; padding: 9px"></late-image></p></micro-yolo>`);
        await lib.sleep(50);
        customElements.define(
          "late-image",
          class extends HTMLElement {
            connectedCallback() {
              const root = this.attachShadow({ mode: "open" });
              setTimeout(() => (root.innerHTML = `<style>img { padding: 4px }</style><img src="${globalThis.picture}">`), 50);
            }
          },
        );
        answers["in a component"] = await heard(1);
        const shown = wrapped.querySelector("late-image").shadowRoot.querySelector("img");
        const [image2, inner] = [shown, wrapped.shadowRoot.querySelector("canvas")].map((one) => one.getBoundingClientRect());
        answers["in a component"].push([inner.x - image2.x, inner.y - image2.y, inner.width, inner.height].map(Math.round).join());
        shown.src = URL.createObjectURL(await lib.blobOf(lib.spotCanvas(100, 100, { x: 0, y: 0, w: 0, h: 0 })));
        answers["in a component"].push(...(await heard(1)));
        // A built-in element that shall become another, and one that never can.
        make(`<micro-yolo model="MODEL"><p is="later-p"><img is="never" src="PICTURE"></p></micro-yolo>`);
        answers["with is"] = await heard(1);
        // An element of another window.
        const frame = document.body.appendChild(document.createElement("iframe"));
        const foreign = frame.contentDocument.createElement("img");
        foreign.src = globalThis.picture;
        make(`<micro-yolo model="MODEL"></micro-yolo>`).append(foreign);
        answers["of another window"] = await heard(1);
        return answers;
      });
      assert.deepEqual(found, {
        "late": [1],
        "another src": [0],
        "a canvas instead": [1],
        "text keeps its lines": true,
        "through a slot": [1],
        "in a component": [1, "4,4,120,60", 0],
        "with is": [1],
        "of another window": [1],
      });
    });

    test("pictures that show late, and others that the browser chooses", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard, lib } = globalThis;
        const answers = {};
        const bare = URL.createObjectURL(await lib.blobOf(lib.spotCanvas(100, 100, { x: 0, y: 0, w: 0, h: 0 })));
        const covers = (element) => {
          const [a, b] = [element.querySelector("img"), element.shadowRoot.querySelector("canvas")].map((one) => one.getBoundingClientRect());
          return a.width > 0 && ["x", "y", "width", "height"].every((name) => Math.abs(a[name] - b[name]) < 1.5);
        };
        for (const [what, css, shown] of [["element", "display: none", ""], ["element, skipped", "content-visibility: hidden", ""]]) {
          const element = make(`<micro-yolo model="MODEL" style="${css}"><img src="PICTURE"></micro-yolo>`);
          answers[what] = await heard(1);
          element.style.cssText = shown;
          await globalThis.frames(3);
          answers[what].push(covers(element));
        }
        const picture = make(`<micro-yolo model="MODEL"><img src="PICTURE" style="display: none"></micro-yolo>`);
        answers.image = await heard(1);
        picture.querySelector("img").style.display = "";
        await globalThis.frames(3);
        answers.image.push(covers(picture));
        // Far below: not loaded, so not looked at, and no error.
        const lazy = make(`<micro-yolo model="MODEL" style="margin-top: 20000px"><img loading="lazy" src="/samples/cat.jpg"></micro-yolo>`);
        await lib.sleep(300);
        answers.lazy = globalThis.events.splice(0);
        lazy.scrollIntoView();
        answers.scrolled = await heard(1);
        const chosen = make(`<micro-yolo model="MODEL"><picture><source srcset="PICTURE 2x"><img src="${bare}"></picture></micro-yolo>`);
        answers.source = await heard(1);
        answers.source.push(covers(chosen));
        chosen.querySelector("source").srcset = bare;
        answers["another source"] = await heard(1);
        const dense = make(`<micro-yolo model="MODEL"><img srcset="${bare} 2x"></micro-yolo>`);
        answers.srcset = await heard(1);
        dense.querySelector("img").srcset = `${globalThis.picture} 2x`;
        answers.srcset.push(...(await heard(1)), covers(dense));
        return answers;
      });
      assert.deepEqual(found, {
        "element": [1, true],
        "element, skipped": [1, true],
        "image": [1, true],
        "lazy": [],
        "scrolled": [0],
        "source": [1, true],
        "another source": [0],
        "srcset": [0, 1, true],
      });
    });

    test("a broken picture or film is told, and a good one after it is seen", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard, lib } = globalThis;
        const answers = {};
        const element = make(`<micro-yolo model="MODEL"><img src="PICTURE"></micro-yolo>`);
        answers.good = await heard(1);
        const image = element.querySelector("img");
        const canvas = element.shadowRoot.querySelector("canvas");
        const painted = () => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((one) => one > 0);
        answers.painted = painted();
        image.src = "/nowhere.png";
        answers.broken = await heard(1);
        answers["painted on nothing"] = painted() || element.objects.length > 0;
        image.src = globalThis.picture;
        answers["good again"] = await heard(1);
        image.removeAttribute("src");
        await lib.sleep(100);
        answers["painted without a source"] = painted() || element.objects.length > 0 || globalThis.events.length > 0;
        make(`<micro-yolo model="MODEL"><img src="http://127.0.0.1:9/refused.png"></micro-yolo>`);
        answers["broken at once"] = await heard(1).then((said) => lib.sleep(300).then(() => said.concat(globalThis.events.splice(0))));
        // Broken already when it is put in.
        const broken = new Image();
        broken.src = "/nowhere.png";
        await new Promise((resolve) => (broken.onerror = resolve));
        make(`<micro-yolo model="MODEL"><picture></picture></micro-yolo>`).firstElementChild.append(broken);
        answers["broken before"] = await heard(1);
        make(`<micro-yolo model="MODEL"><img></micro-yolo>`);
        await lib.sleep(200);
        answers["no src yet"] = globalThis.events.splice(0);
        // A film, played twice, broken, and good again.
        const type = document.createElement("video").canPlayType("video/mp4; codecs=avc1.4d401e") ? "mp4" : "webm";
        const films = make(`<micro-yolo model="MODEL" track><a><video muted src="/fixtures/spot.${type}"></video></a></micro-yolo>`);
        const video = films.querySelector("video");
        video.muted = true;
        await video.play();
        await new Promise((resolve) => (video.onended = resolve));
        await lib.sleep(300);
        answers.film = globalThis.events.splice(0).length > 5 && typeof films.objects[0].trackId;
        await video.play();
        answers["played again"] = (await heard(5)).length >= 5;
        await new Promise((resolve) => (video.onended = resolve));
        await lib.sleep(300);
        globalThis.events.length = 0;
        video.src = "/nowhere.mp4";
        await lib.sleep(300);
        video.src = "/samples/cat.jpg";
        answers["broken film"] = await heard(1);
        video.src = `/fixtures/spot.${type}?again`;
        answers["good film"] = await heard(1);
        return answers;
      });
      assert.ok(found["broken film"].every((code) => code === "invalid-image") && found["broken film"].length, found["broken film"]);
      delete found["broken film"];
      assert.deepEqual(found, {
        "good": [1],
        "painted": true,
        "broken": ["invalid-image"],
        "painted on nothing": false,
        "good again": [1],
        "painted without a source": false,
        "broken at once": ["invalid-image"],
        "broken before": ["invalid-image"],
        "no src yet": [],
        "film": "number",
        "played again": true,
        "good film": [1],
      });
    });

    test("over the poster of a film lie no boxes", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard, frames } = globalThis;
        const film = `<video muted loop src="/fixtures/spot.mp4" preload="auto" POSTER></video>`;
        const seen = [];
        for (const poster of ["", `poster="PICTURE"`]) {
          const element = make(`<micro-yolo model="MODEL">${film.replace("POSTER", poster)}</micro-yolo>`);
          const [video, canvas] = [element.querySelector("video"), element.shadowRoot.querySelector("canvas")];
          const boxes = () => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean);
          const objects = await heard(1);
          await frames(3);
          const before = boxes();
          await video.play();
          await heard(2);
          video.pause();
          await frames(3);
          seen.push([objects[0], before, boxes()].join());
          element.remove();
          await globalThis.lib.sleep(200);
          globalThis.events.length = 0; // The next element has its own.
        }
        return seen;
      });
      assert.deepEqual(found, ["1,true,true", "1,false,true"]);
    });

    test("each of two videos has its own tracks", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { lib, make } = globalThis;
        const stop = [];
        const ids = [10, 70].map((x) => {
          const canvas = lib.spotCanvas(120, 60, { x, y: 15, w: 40, h: 25 });
          const timer = setInterval(() => canvas.getContext("2d").drawImage(canvas, 0, 0), 30);
          stop.push(() => clearInterval(timer));
          const element = make(`<micro-yolo model="MODEL" track><video muted></video></micro-yolo>`);
          const video = element.querySelector("video");
          Object.assign(video, { muted: true, srcObject: canvas.captureStream(30) });
          void video.play();
          const seen = [];
          element.addEventListener("detect", ({ detail }) => seen.push(detail.objects[0]?.trackId));
          return seen;
        });
        for (let tries = 0; tries < 300 && ids.some((seen) => seen.length < 12); tries += 1) await lib.sleep(30);
        for (const end of stop) end();
        return ids.map((seen) => [seen.length >= 12, ...new Set(seen.slice(2))]);
      });
      assert.deepEqual(found, [[true, 0], [true, 0]]);
    });

    test("attributes choose classes and input size, and wrong ones are told", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard } = globalThis;
        const answers = {};
        const element = make(`<micro-yolo model="MODEL" classes="red spot"><img src="PICTURE"></micro-yolo>`);
        answers.label = await heard(1);
        const set = async (name, value) => {
          if (value === null) element.removeAttribute(name);
          else element.setAttribute(name, value);
          return heard(1);
        };
        answers.number = await set("classes", " 0 , red spot ");
        answers.empty = await set("classes", "");
        answers.unknown = await set("classes", "red spot, dog");
        answers["beyond the last"] = await set("classes", "1");
        answers.none = await set("classes", null);
        answers.size = await set("input-size", "160");
        answers["width and height"] = await set("input-size", "160x160");
        answers["another size"] = await set("input-size", "33");
        answers["no size"] = await set("input-size", "large");
        answers.back = await set("input-size", null);
        answers.threads = await set("threads", "2"); // Which this page, not being isolated, does not give.
        answers["no number of threads"] = await set("threads", "many");
        answers["half a thread"] = await set("threads", "0.5");
        answers["empty threads"] = await set("threads", "");
        answers.track = await set("track", "");
        answers["empty threshold"] = await set("score-threshold", "");
        answers["empty size"] = await set("input-size", "");
        answers["no model"] = await set("model", "/nowhere.onnx");
        element.remove();
        const coco = make(`<micro-yolo model="" classes="dog, 15" input-size="256x224"><img src="/samples/cat.jpg"></micro-yolo>`);
        await heard(1);
        answers.cat = coco.objects.map(({ label }) => label);
        coco.setAttribute("classes", "dog, 015");
        answers["with zeros"] = await heard(1);
        coco.setAttribute("classes", "dog,teddy bear");
        answers.dog = await heard(1);
        return answers;
      });
      assert.deepEqual(found, {
        "label": [1],
        "number": [1],
        "empty": [1],
        "unknown": ["invalid-option"],
        "beyond the last": ["invalid-option"],
        "none": [1],
        "size": [1],
        "width and height": [1],
        "another size": ["invalid-option"],
        "no size": ["invalid-option"],
        "back": [1],
        "threads": [1],
        "no number of threads": ["invalid-option"],
        "half a thread": ["invalid-option"],
        "empty threads": [1],
        "track": [1],
        "empty threshold": [1],
        "empty size": [1],
        "no model": ["network"],
        "cat": ["cat"],
        "with zeros": [1],
        "dog": [0],
      });
    });

    test("moved to another document and back, it keeps its boxes over the picture", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard, lib } = globalThis;
        const element = make(`<micro-yolo model="MODEL"><img src="PICTURE"></micro-yolo>`);
        const answers = [await heard(1)];
        const frame = document.body.appendChild(document.createElement("iframe"));
        const home = element.parentNode;
        for (const place of [frame.contentDocument.body, home]) {
          const again = new Promise((resolve) => element.addEventListener("detect", resolve, { once: true }));
          place.append(element);
          await again;
          await new Promise(requestAnimationFrame);
          const [boxes, picture] = [element.shadowRoot.querySelector("canvas"), element.querySelector("img")].map((one) => {
            const { left, top, width, height } = one.getBoundingClientRect();
            return [left, top, width, height].map(Math.round).join();
          });
          answers.push(boxes === picture || `${boxes} instead of ${picture}`);
        }
        // On a finer screen, as a window of picture-in-picture may be.
        const inside = frame.contentWindow;
        inside.document.body.append(element);
        await heard(1);
        const canvas = element.shadowRoot.querySelector("canvas");
        Object.defineProperty(inside, "devicePixelRatio", { value: 3 });
        inside.dispatchEvent(new inside.Event("resize"));
        answers.push(canvas.width / canvas.clientWidth);
        // A component of that document.
        const around = make(`<micro-yolo model="MODEL"></micro-yolo>`);
        inside.document.body.append(around);
        const component = inside.document.createElement("div");
        component.attachShadow({ mode: "open" }).append(Object.assign(inside.document.createElement("img"), { src: globalThis.picture }));
        around.append(component);
        for (let tries = 0; tries < 150 && !around.objects.length; tries += 1) await lib.sleep(20);
        answers.push(around.objects.length);
        element.remove();
        around.remove();
        frame.remove();
        return answers;
      });
      assert.deepEqual(found, [[1], true, true, 3, 1]);
    });

    test("moved or rendered anew it keeps its detector, and in a frame that is removed it gives it up", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard, lib } = globalThis;
        const { Worker } = globalThis;
        const workers = new Set();
        globalThis.Worker = class extends Worker {
          constructor(...options) {
            super(...options);
            workers.add(this);
          }
          terminate() {
            workers.delete(this);
            super.terminate();
          }
        };
        const element = make(`<micro-yolo model="MODEL?moved"><img src="PICTURE"></micro-yolo>`);
        const answers = [await heard(1)];
        const [first] = workers;
        const kept = () => workers.size === 1 && workers.has(first);
        const place = document.body.appendChild(document.createElement("div"));
        place.style.marginLeft = "50px";
        // One after the other, as lists are sorted.
        for (const parent of [place, document.body, place]) parent.append(element);
        answers.push(await heard(1), kept());
        place.innerHTML = "";
        place.innerHTML = element.outerHTML;
        const again = place.firstElementChild;
        await new Promise((resolve) => again.addEventListener("detect", resolve, { once: true }));
        answers.push(again.objects.length, kept());
        // Moved in one piece, where the browser can, it does not even look again.
        let looks = 0;
        again.addEventListener("detect", () => (looks += 1));
        if (document.body.moveBefore) document.body.moveBefore(again, place);
        await lib.sleep(200);
        answers.push(looks, kept());
        again.remove();
        await lib.sleep(50);
        answers.push(workers.size);

        for (const media of [`<img src="PICTURE">`, `<video src="/fixtures/spot.webm" muted loop autoplay></video>`]) {
          const frame = document.body.appendChild(document.createElement("iframe"));
          const inside = make(`<micro-yolo model="MODEL?framed">${media}</micro-yolo>`);
          const seen = new Promise((resolve) => inside.addEventListener("detect", resolve, { once: true }));
          frame.contentDocument.body.append(inside);
          await seen;
          frame.remove();
          await lib.sleep(50);
          answers.push(workers.size);
        }
        globalThis.Worker = Worker;
        return answers;
      });
      assert.deepEqual(found, [[1], [1], true, 1, true, 0, true, 0, 0, 0]);
    });

    test("attributes that are set one after the other load one detector, and who is taken out loads none", async () => {
      await open();
      const held = site.hold("/models/micro-yolo-s-int8.onnx");
      const before = site.requests.length;
      const found = await page.evaluate(async () => {
        const { make, heard, lib } = globalThis;
        const { Worker } = globalThis;
        let started = 0;
        let stopped = 0;
        globalThis.Worker = class extends Worker {
          constructor(...options) {
            super(...options);
            started += 1;
          }
          terminate() {
            stopped += 1;
            super.terminate();
          }
        };
        // As frameworks do it: put in, and then given its properties.
        const element = make(`<micro-yolo><img src="PICTURE"></micro-yolo>`);
        element.inputSize = 96;
        element.model = lib.MODEL;
        element.inputSize = "";
        element.threads = 1;
        const answers = [await heard(1), started];
        element.remove();
        await lib.sleep(50);
        answers.push(stopped);
        const other = make(`<micro-yolo model="/models/micro-yolo-s-int8.onnx"><img src="PICTURE"></micro-yolo>`);
        await lib.sleep(300);
        other.remove();
        await lib.sleep(100);
        answers.push(started, stopped, await heard(0));
        globalThis.Worker = Worker;
        return answers;
      });
      assert.deepEqual(found, [[1], 1, 1, 2, 2, []]);
      await held.dropped; // The download of the model ends too.
      assert.ok(!site.requests.slice(before).includes("/pkg/wasm/micro-yolo-int8.onnx"), "the model of the package was not asked for");
    });

    test("after the network was lost, the next picture loads again", async () => {
      await open();
      site.route("/lost.onnx", (_, response) => response.destroy());
      const first = await page.evaluate(async () => {
        const { make, heard, lib } = globalThis;
        globalThis.element = make(`<micro-yolo model="/lost.onnx"><img src="PICTURE"></micro-yolo>`);
        globalThis.next = (x) => lib.blobOf(lib.spotCanvas(120, 60, { x, y: 15, w: 50, h: 25 })).then(URL.createObjectURL);
        const answers = [await heard(1)];
        // Not for the picture that is already there.
        globalThis.element.firstChild.dispatchEvent(new Event("load"));
        await lib.sleep(200);
        answers.push(await heard(0));
        globalThis.element.firstChild.src = await globalThis.next(30);
        answers.push(await heard(1));
        return answers;
      });
      assert.deepEqual(first, [["network"], [], ["network"]]);
      site.route("/lost.onnx", async (_, response) => response.end(await readFile(join(ROOT, "tests/e2e/fixtures/red-spot.onnx"))));
      const second = await page.evaluate(async () => {
        globalThis.element.firstChild.src = await globalThis.next(40);
        return globalThis.heard(1);
      });
      assert.deepEqual(second, [1]);
    });

    test("boxes are not drawn over another picture than theirs", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard, frames } = globalThis;
        const element = make(`<micro-yolo model="MODEL"><img src="PICTURE"></micro-yolo>`);
        const answers = [await heard(1)];
        const canvas = element.shadowRoot.querySelector("canvas");
        const isDrawn = () => {
          const { width, height } = canvas;
          return width * height > 0 && canvas.getContext("2d").getImageData(0, 0, width, height).data.some(Boolean);
        };
        answers.push(isDrawn());
        // Of neither does anything come to be seen.
        for (const one of [document.createElement("video"), Object.assign(new Image(), { loading: "lazy" })]) {
          one.style = "width: 120px; height: 60px";
          element.replaceChildren(one);
          await frames(4);
          answers.push(isDrawn());
        }
        return answers;
      });
      assert.deepEqual(found, [[1], true, false, false]);
    });

    test("a property that was set too early, or to nothing, is a property", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { MicroYoloElement } = await import("/pkg/element.js");
        const early = document.createElement("early-yolo");
        document.body.append(early);
        early.scoreThreshold = 0.7;
        early.track = true;
        customElements.define("early-yolo", class extends MicroYoloElement {});
        const answers = [early.outerHTML, Object.hasOwn(early, "scoreThreshold")];
        for (const nothing of [undefined, null]) {
          early.scoreThreshold = 0.6;
          early.scoreThreshold = nothing;
          answers.push(early.getAttribute("score-threshold"));
        }
        early.remove();
        return answers;
      });
      assert.deepEqual(found, ['<early-yolo score-threshold="0.7" track=""></early-yolo>', false, null, null]);
    });

    test("properties do what the attributes do", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { MicroYoloElement } = await import("/pkg/element.js");
        const element = new MicroYoloElement();
        const values = {
          classes: [["cat", 16], "dog", null],
          inputSize: [320, "320x224", undefined],
          model: ["a.onnx", new URL("https://example.org/b.onnx"), null],
          threads: [2, "3", undefined],
          // "" is what frameworks pass on of an attribute without a value.
          track: [true, false, "", undefined, true, null, 0],
        };
        return Object.entries(values).map(([property, all]) =>
          all.map((value) => {
            element[property] = value;
            return [element.getAttribute(property === "inputSize" ? "input-size" : property), element[property]];
          }),
        );
      });
      assert.deepEqual(found, [
        [["cat,16", "cat,16"], ["dog", "dog"], [null, ""]],
        [["320", "320"], ["320x224", "320x224"], [null, ""]],
        [["a.onnx", "a.onnx"], ["https://example.org/b.onnx", "https://example.org/b.onnx"], [null, ""]],
        [["2", 2], ["3", 3], [null, 1]],
        [["", true], [null, false], ["", true], [null, false], ["", true], [null, false], [null, false]],
      ]);
    });

    test("after a crash the next picture, and the next element, have a new detector", async () => {
      await open();
      const found = await page.evaluate(async () => {
        const { make, heard } = globalThis;
        const { Worker } = globalThis;
        const workers = [];
        globalThis.Worker = class extends Worker {
          constructor(...options) {
            super(...options);
            workers.push(this);
          }
        };
        const element = make(`<micro-yolo model="MODEL?crash"><img src="PICTURE"></micro-yolo>`);
        const answers = [await heard(1)];
        globalThis.Worker = Worker;
        workers[0].onerror(new ErrorEvent("error", { message: "killed", cancelable: true }));
        const image = element.querySelector("img");
        const { src } = image;
        for (const _ of [1, 2]) {
          image.src = `${src}#${answers.length}`;
          answers.push(await heard(1));
        }
        element.remove();
        return answers;
      });
      assert.deepEqual(found, [[1], ["crashed"], [1]]);
    });
  });
}
