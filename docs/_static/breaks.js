/* Long names may break before a dot, after an underscore or a hyphen and between words, and nowhere else. */
document.addEventListener("DOMContentLoaded", () => {
  const places = "code, h1, .sig, .bd-links a, .prev-next-title, .page-toc a";
  const joint = /(?=\.)|(?<=_)(?!_)|(?<=\w-)(?=[a-z])|(?<=[a-z])(?=[A-Z])/;
  for (const element of document.querySelectorAll(places)) {
    const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    const nodes = [];
    while (texts.nextNode()) nodes.push(texts.currentNode);
    for (const node of nodes) {
      const parts = node.data.split(joint);
      if (parts.length === 1 || node.data.length < 15) continue;
      node.replaceWith(...parts.flatMap((part) => [document.createElement("wbr"), part]).slice(1));
    }
  }
});
