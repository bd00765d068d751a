/* A section in JupyterLab reads like its page. jupyterlab-myst shows boxes, equations and references
   to what a notebook holds itself. Added here, from labels.json (tools/labels.py): the site's
   numbers, references to figures and to other pages, citations, captions and quotes; and the code of
   figures and solutions starts folded. Only what is shown changes, never a cell's source.

   JupyterLab loads this file as it is, as a module federation container: init and get. */
(() => {
  "use strict";
  const NAME = "rl-book";
  const TABLE = new URL("labels.json", document.currentScript.src);
  const NOTHING = { pages: {}, labels: {}, sources: {}, quotes: {} };
  let table = NOTHING;

  // ---- What is read: nodes of the parsed Markdown ----------------------------------------------

  const text = (value) => ({ type: "text", value });

  function pageAt(path) {
    return Object.keys(table.pages).find((page) => path.endsWith(page)) ?? path;
  }

  function address(page, here) {
    return here.split("/").slice(1).map(() => "../").join("") + page;
  }

  const TRANSLATE = {
    heading(node, here) {
      const number = table.pages[here]?.number;
      if (node.depth === 1 && number) node.children = [text(`${number} `), ...node.children];
      return node;
    },

    math(node) {
      const target = table.labels[node.label];
      if (target) node.enumerator = target.number;
      else node.enumerated = false;
      return node;
    },

    proof(node) {
      return TRANSLATE.math(node);
    },

    exercise(node) {
      return node.gate === "end" ? null : TRANSLATE.math(node);
    },

    solution(node) {
      // A solution with code begins in one cell and ends in another.
      if (node.gate === "end") return null;
      delete node.gate;
      return node;
    },

    crossReference(node, here, place) {
      const target = table.labels[node.label];
      if (!target || (target.page === here && target.kind !== "figure")) return node;
      const words = {
        eq: `(${target.number})`,
        numref: `${target.name} ${target.number}`,
        ref: target.title || `${target.name} ${target.number}`,
      };
      return {
        type: "link",
        url: address(target.page, here) + (target.page === here ? place(node.label) : ""),
        children: node.children?.length ? node.children : [text(words[node.kind] ?? words.numref)],
      };
    },

    citeGroup(node) {
      const sources = node.children.map((cite) => table.sources[cite.label]);
      if (!sources.every(Boolean)) return node;
      const words = node.kind === "narrative"
        ? sources.map(({ authors, year }) => `${authors} [${year}]`).join(", ")
        : `[${sources.map(({ authors, year }) => `${authors}, ${year}`).join("; ")}]`;
      const title = sources.map(({ full }) => full).join(" ");
      return { type: "abbreviation", title, children: [text(words)] };
    },

    bibliography() {
      const paragraph = ({ full }) => ({ type: "paragraph", children: [text(full)] });
      return { type: "block", children: Object.values(table.sources).map(paragraph) };
    },

    mystRole(node, here) {
      const quote = node.name === "run" && table.quotes[`${here} ${node.value}`];
      return quote ? text(quote) : node;
    },

    mystDirective(node) {
      if (node.children?.length) return node;
      const words = text(`The built book has its ${node.name.replaceAll("-", " ")} here.`);
      return { type: "paragraph", children: [{ type: "emphasis", children: [words] }] };
    },
  };

  function translate(node, here, place) {
    const shown = TRANSLATE[node.type] ? TRANSLATE[node.type](node, here, place) : node;
    if (shown?.children) {
      shown.children = shown.children.map((child) => translate(child, here, place)).filter(Boolean);
    }
    return shown;
  }

  const contexts = new WeakMap(); // of notebooks: a cell out of sight has no parent to ask
  const translated = new WeakSet();

  /* jupyterlab-myst numbers and resolves what all cells' `fragmentMDAST` hold together. */
  function translateCell(cell) {
    const inherited = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(cell), "fragmentMDAST");
    if (!inherited) return;
    Object.defineProperty(cell, "fragmentMDAST", {
      get() {
        const fragment = inherited.get.call(cell);
        const context = contexts.get(cell.model?.sharedModel.notebook);
        if (fragment && context && !translated.has(fragment)) {
          translated.add(fragment);
          translate(fragment, pageAt(context.path), (label) => {
            const cells = [...context.model.cells];
            const figure = cells.find((other) => other.getMetadata("mystnb")?.figure?.name === label);
            return figure ? `#cell-id=${figure.id}` : "";
          });
        }
        return fragment;
      },
    });
  }

  // ---- What is run: folded code, captions ------------------------------------------------------

  function inSolution(cell) {
    let inside = false;
    for (const other of cell.notebook?.cells ?? []) {
      if (other === cell) break;
      if (other.cell_type === "markdown") {
        for (const [, gate] of other.source.matchAll(/\{solution-(start|end)\}/g)) {
          inside = gate === "start";
        }
      }
    }
    return inside;
  }

  function caption(figure, rendermime) {
    const shown = rendermime.createRenderer("text/markdown");
    const target = table.labels[figure.name];
    const name = target ? `**${target.name} ${target.number}** ` : "";
    shown.renderModel({ data: { "text/markdown": name + figure.caption }, metadata: {}, trusted: true });
    shown.addClass("rl-caption");
    return shown;
  }

  function foldAndCaption(cell, rendermime) {
    const { model } = cell;
    const tags = model.getMetadata("tags") ?? [];
    if (tags.includes("hide-input") || (model.sharedModel.source && inSolution(model.sharedModel))) {
      cell.syncCollapse = false; // or the fold would be written into the cell's metadata
      cell.inputHidden = true;
    }
    const figure = model.getMetadata("mystnb")?.figure;
    if (figure?.caption && figure.name) {
      cell.ready.then(() => cell.layout.addWidget(caption(figure, rendermime)));
    }
  }

  function opened(panel, context) {
    contexts.set(context.model.sharedModel, context);
    // A page without code, such as a part's first, opens without the question for a kernel.
    if (table.pages[pageAt(context.path)]?.code === false) {
      const { sessionContext } = context;
      sessionContext.kernelPreference = { ...sessionContext.kernelPreference, shouldStart: false };
    }
  }

  // ---- The extension ---------------------------------------------------------------------------

  const STYLE = `
    .rl-caption {
      box-sizing: border-box;
      width: auto;
      margin: 0 0 .8em;
      padding: 0 1em 0 calc(var(--jp-cell-prompt-width) + var(--jp-code-padding));
      color: var(--jp-content-font-color1);
    }
  `;

  function plugin(notebook) {
    return {
      id: `${NAME}:sections`,
      description: "Shows sections with the site's numbers, words and captions.",
      autoStart: true,
      requires: [notebook.NotebookPanel.IContentFactory],
      activate(app, factory) {
        const { createCodeCell, createMarkdownCell } = factory;
        factory.createMarkdownCell = function (options) {
          const cell = createMarkdownCell.call(this, options);
          translateCell(cell);
          return cell;
        };
        factory.createCodeCell = function (options) {
          const cell = createCodeCell.call(this, options);
          foldAndCaption(cell, options.rendermime);
          return cell;
        };
        app.docRegistry.addWidgetExtension("Jupytext Notebook", { createNew: opened });
        document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
      },
    };
  }

  let shared;

  (window._JUPYTERLAB ??= {})[NAME] = {
    init(scope) {
      shared = scope;
    },
    async get() {
      const answer = await fetch(TABLE, { cache: "no-cache" });
      table = answer.ok ? await answer.json() : NOTHING;
      const [version] = Object.values(shared["@jupyterlab/notebook"]);
      const notebook = (await version.get())();
      return () => ({ __esModule: true, default: plugin(notebook) });
    },
  };
})();
