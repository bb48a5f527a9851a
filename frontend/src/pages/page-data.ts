/** What the server wrote into the page for its script. */
export function pageData<Data>(): Data {
  const element = document.getElementById("page-data");
  if (!element?.textContent) throw new Error("This page has no data for its script");
  return JSON.parse(element.textContent) as Data;
}
