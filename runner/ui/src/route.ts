// Where the page is, as the part of its address behind `#/`; the server knows only `/`.

import { signal } from "@preact/signals";

/** The parts of the address, each as it was before it was escaped. */
export const route = signal(parts());

function parts(): string[] {
  const text = location.hash.replace(/^#\/?/, "");
  return text === "" ? [] : text.split("/").map(unescape);
}

function unescape(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

addEventListener("hashchange", () => {
  route.value = parts();
});

export const to = (...parts: string[]) => `#/${parts.map(encodeURIComponent).join("/")}`;

/** Of a job by its id, `group/name`. */
export const toJob = (id: string) => to("jobs", ...id.split("/"));

/** What a view is turned to, which is no place of its own: one that is come back to, or sent to others, is as it was. */
export function remember(...wanted: string[]) {
  const address = to(...wanted);
  if (address === location.hash) return;
  history.replaceState(null, "", address);
  route.value = parts();
}
