// The numbered sources under an answer; weak matches are left out.

const WEAK = 0.55; // of the best score, as on the page of the documents

export function sourceList(sources) {
  const list = document.createElement("ol");
  list.className = "sources";
  list.setAttribute("aria-label", "Sources");
  const best = Math.max(...sources.map(({ score }) => score));
  sources
    .filter(({ score }) => score >= best * WEAK)
    .forEach((source, index) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = `/documents/${encodeURIComponent(source.documentId)}/#chunk-${source.chunkIndex}`;
      const number = document.createElement("b");
      number.textContent = `${index + 1} `;
      const heading = source.heading && source.heading !== source.title ? `, ${source.heading}` : "";
      const where = source.page ? `, page ${source.page}` : heading;
      const snippet = document.createElement("span");
      snippet.textContent = source.snippet;
      link.append(number, `${source.title}${where}`, snippet);
      item.append(link);
      list.append(item);
    });
  return list;
}
